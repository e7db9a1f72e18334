"""Universal copies of checkpoints: where they lie, which are current, when one is needed, when they go. No torch.

DeepSpeed loads a checkpoint of ZeRO 1 to 3 only with the number of ranks that wrote it. A universal copy holds one
file per parameter and state, which any number of ranks can load. It lies beside the checkpoint as `universal-STEP` and
has a manifest of its own: the checkpoint's, but for the files. `universal` makes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from launcher.checkpoint.manifest import MANIFEST, Manifest, committed_steps, read_manifest, step_folder
from launcher.errors import Problem, UserError
from launcher.rundir import RunDir

PREFIX = "universal-"


def universal_folder(checkpoints: Path, step: int) -> Path:
    """Folder of the universal copy of the checkpoint after `step` optimiser steps."""
    return checkpoints / f"{PREFIX}{step:08d}"


def read_universal(checkpoints: Path, manifest: Manifest) -> Manifest | None:
    """The manifest of a checkpoint's universal copy; None if there is none.

    A copy of another checkpoint at the same step, which `resume --step` has left behind, is none.
    """
    copy = read_manifest(universal_folder(checkpoints, manifest.step))
    return copy if copy is not None and replace(copy, shards=[]) == replace(manifest, shards=[]) else None


def loads_directly(manifest: Manifest, world_size: int) -> bool:
    """Whether so many ranks can load the checkpoint as it is. At stage 0 one file holds everything."""
    return manifest.zero_stage == 0 or manifest.world_size == world_size


def due_for_conversion(checkpoints: Path, world_size: int) -> Manifest | None:
    """The newest checkpoint, if so many ranks can load it only as a universal copy."""
    manifests = (read_manifest(step_folder(checkpoints, step)) for step in reversed(committed_steps(checkpoints)))
    newest = next((manifest for manifest in manifests if manifest is not None), None)
    return None if newest is None or loads_directly(newest, world_size) else newest


def convert_apart(run: RunDir, world_size: int) -> None:
    """Convert the newest good checkpoint in a process of its own, if that is due; UserError when it fails.

    Apart, because DeepSpeed and torch stay out of the process that prepares the ranks.
    """
    due = due_for_conversion(run.checkpoints, world_size)
    if due is None:
        return
    command = [sys.executable, "-u", "-m", "launcher.checkpoint.universal", str(run.root)]
    # The progress of thousands of small files is told by stages; bars are for terminals.
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    print(result.stderr, end="", file=sys.stderr, flush=True)
    if result.returncode == 0:
        return
    if result.returncode < 0:
        reason = f"killed by signal {-result.returncode}, as when memory runs out"
    else:
        reason = result.stderr.strip().rpartition("\n")[2]
    raise UserError(
        Problem(
            where=f"checkpoint at step {due.step}",
            message=f"{due.world_size} ranks wrote it, and it could not be converted for {world_size}: {reason}",
            remedy="the attempt's launch.log tells more; a conversion needs room for two more checkpoints beside it; "
            f"or `launcher resume {run.root.name}` with {due.world_size} ranks, which needs none",
        )
    )


def remove_universal(checkpoints: Path, step: int) -> None:
    """Remove a universal copy, if it is there. The manifest goes first: half a copy is none."""
    folder = universal_folder(checkpoints, step)
    (folder / MANIFEST).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)


def prune_universal(checkpoints: Path, keep_steps: Collection[int]) -> None:
    """Remove the universal copies of all steps but `keep_steps`."""
    for folder in checkpoints.glob(f"{PREFIX}*"):
        step = int(folder.name.removeprefix(PREFIX))
        if step not in keep_steps:
            remove_universal(checkpoints, step)
