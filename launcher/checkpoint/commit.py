"""The step from a folder of files to a checkpoint: one rename, and only by the attempt that is the run. No torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from launcher.checkpoint.manifest import Manifest, step_folder
from launcher.checkpoint.unfinished import forget_lists
from launcher.faultpoints import Point
from launcher.publish import publish_dir, publish_text, sync_dir
from launcher.rundir import RunDir

LATEST = "latest"
ASIDE = ".old-"
"""Prefix of a checkpoint that another one of the same step is about to replace."""
GONE = ".gone-"
"""Prefix of a folder that is being removed."""


class StaleError(Exception):
    """Another attempt has begun: whatever this one wrote is not the run's any more."""


def fence(run: RunDir, attempt: int) -> None:
    """StaleError if a later attempt than `attempt` has begun.

    Slurm requeues a job whose node it has lost, and the node's ranks may live on without knowing of it.
    """
    newest = max(run.attempt_numbers(), default=attempt)
    if newest > attempt:
        raise StaleError(f"attempt {newest} has begun; attempt {attempt} is no longer the run")


def commit(
    run: RunDir, folder: Path, manifest: Manifest, *, attempt: int, at: Callable[[Point], object] = lambda point: None
) -> None:
    """Make `folder`, whose shards are all synced, the checkpoint of its step. StaleError, OSError: it is none.

    `attempt` is who commits, not necessarily who wrote. `at` is told of the points passed.
    """
    at(Point.save_manifest)
    manifest.write(folder)
    forget_lists(folder)
    # Of a writer that was killed while it published one of its small files.
    for stray in folder.glob(".*.tmp"):
        stray.unlink(missing_ok=True)
    at(Point.save_rename)
    fence(run, attempt)
    put_in_place(folder, step_folder(run.checkpoints, manifest.step))


def put_in_place(folder: Path, final: Path) -> None:
    """Rename `folder` to `final`; what lies there is moved aside first, and is back if the rename fails.

    Between the two renames neither has the name; `tidy` completes the second one for a process that died there.
    """
    aside = final.with_name(f"{ASIDE}{final.name}")
    if final.exists():
        if aside.exists():
            shutil.rmtree(aside)
        os.rename(final, aside)
    try:
        publish_dir(folder, final)
    except OSError:
        if aside.exists() and not final.exists():
            os.rename(aside, final)
        raise
    if aside.exists():
        remove_folder(aside)


def remove_folder(folder: Path) -> None:
    """Remove a checkpoint: at one moment it is whole, at the next it is none. What is left of it is for `tidy`."""
    gone = folder.with_name(f"{GONE}{folder.name.lstrip('.')}")
    if gone.exists():
        shutil.rmtree(gone, ignore_errors=True)
    os.rename(folder, gone)
    # Before the first file goes: a power cut must not bring back the name of half a checkpoint.
    sync_dir(gone.parent)
    shutil.rmtree(gone, ignore_errors=True)


def point_to(checkpoints: Path, step: int) -> None:
    """Name the newest checkpoint where DeepSpeed's own tools look for it; nothing of ours reads it."""
    publish_text(checkpoints / LATEST, step_folder(checkpoints, step).name)
