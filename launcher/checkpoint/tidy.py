"""Before an attempt's ranks start: what earlier attempts left half done is completed or removed. No torch."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from launcher.checkpoint.commit import ASIDE, GONE, LATEST, StaleError, commit, fence, point_to, remove_folder
from launcher.checkpoint.manifest import MANIFEST, Manifest, committed_steps, read_manifest, step_folder
from launcher.checkpoint.unfinished import NotToldError, manifest_from_lists, unfinished
from launcher.checkpoint.verify import shard_faults
from launcher.publish import half_written
from launcher.rundir import RunDir
from launcher.runs.events import Event, record


def tidy(run: RunDir, attempt: int) -> list[int]:
    """Commit what a dead attempt had written whole, and remove its other leavings; the steps recovered, ascending.

    Call it before the ranks of `attempt` start. Does nothing for an attempt that is not the newest.
    """
    try:
        fence(run, attempt)
    except StaleError:
        return []
    recovered = []
    for folder, step, number in unfinished(run.checkpoints):
        if number < attempt and _recover(run, folder, attempt):
            recovered.append(step)
    _settle_replaced(run.checkpoints)
    for folder in run.checkpoints.glob(f"{GONE}*"):
        shutil.rmtree(folder, ignore_errors=True)
    for file in half_written(run.checkpoints / LATEST):
        file.unlink(missing_ok=True)
    if recovered:
        with suppress(OSError):
            point_to(run.checkpoints, committed_steps(run.checkpoints)[-1])
    return sorted(set(recovered))


def discard_unfinished(checkpoints: Path, *, after_step: int) -> None:
    """Remove saves of later steps that were cut off: who goes back to `after_step` does not want them recovered."""
    for folder, step, _ in unfinished(checkpoints):
        if step > after_step:
            remove_folder(folder)


def _recover(run: RunDir, folder: Path, attempt: int) -> bool:
    """Commit the folder if it is whole, remove it if not. The process died between the last byte and the rename."""
    manifest = _whole(folder)
    if manifest is None:
        remove_folder(folder)
        return False
    try:
        commit(run, folder, manifest, attempt=attempt)
        size = sum(shard.size for shard in manifest.shards)
        record(run, Event.checkpoint, attempt, step=manifest.step, seconds=0.0, stalled_s=0.0, size=size)
    except (OSError, StaleError) as error:
        # A run can start without it, from the checkpoint before.
        print(f"checkpoint at step {manifest.step} could not be recovered: {error}", flush=True)
    return step_folder(run.checkpoints, manifest.step).exists()


def _whole(folder: Path) -> Manifest | None:
    """The manifest, written or to be, if every shard is as it says."""
    try:
        manifest = read_manifest(folder) or manifest_from_lists(folder)
    except NotToldError:
        return None
    return manifest if manifest.shards and not shard_faults(folder, manifest) else None


def _settle_replaced(checkpoints: Path) -> None:
    """A checkpoint that was moved aside goes, if another has taken its place, and comes back otherwise."""
    for aside in checkpoints.glob(f"{ASIDE}step-*"):
        final = checkpoints / aside.name.removeprefix(ASIDE)
        if final.exists() or not (aside / MANIFEST).exists():
            remove_folder(aside)
        else:
            aside.rename(final)
