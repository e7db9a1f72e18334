"""Removing checkpoints of a run that has ended, on its user's word. While it is active it prunes by itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.checkpoint.manifest import MANIFEST, committed_steps, step_folder
from launcher.checkpoint.verify import faults
from launcher.errors import Problem, UserError
from launcher.publish import sync_dir
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.status import ACTIVE, AskQueue, ask_cluster, status

ToRemove = Callable[[Sequence[int]], list[int]]
"""Of the steps of all checkpoints, ascending, those that may go."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What was, or would be, done."""

    removed: list[int]
    """Steps of the checkpoints that went."""
    kept: list[int]
    """Steps of those that stay."""
    bad: dict[int, list[str]]
    """Checkpoints among the kept that did not verify, with the faults: going on would pass them over."""


def policy_of(run: RunDir, last: int | None) -> ToRemove:
    """The newest `last` stay; None is what the run's config says."""
    if last is None:
        last = RunPlan.load(run.plan).config.checkpoint.keep_last
    keep = last
    return lambda steps: _beyond_newest(steps, keep)


def _beyond_newest(steps: Sequence[int], last: int | None) -> list[int]:
    return [] if last is None else list(steps[: max(0, len(steps) - last)])


def prune(
    run: RunDir,
    to_remove: ToRemove,
    *,
    dry_run: bool,
    verify: Callable[[Path], list[str]] = faults,
    ask: AskQueue = ask_cluster,
) -> Pruned:
    """Remove what the policy lets go, but never the newest checkpoint that verifies; UserError while the run is active.

    The newest one is read and hashed; if it is bad, the one before it, until one is good. That one stays.
    """
    _refuse_active(run, ask)
    steps = committed_steps(run.checkpoints)
    good, bad = _newest_good(run, steps, verify)
    removed = [step for step in to_remove(steps) if step != good]
    if steps and good is None:
        # What is damaged may still be worth mending, and there is nothing better.
        removed = []
    if not dry_run:
        for step in removed:
            remove(step_folder(run.checkpoints, step))
    kept = [step for step in steps if step not in removed]
    return Pruned(removed=removed, kept=kept, bad={step: found for step, found in bad.items() if step in kept})


def _refuse_active(run: RunDir, ask: AskQueue) -> None:
    now = status(run, ask)
    if now.state in ACTIVE:
        raise UserError(
            Problem(
                where=f"run {now.run_id}",
                message=f"it is {now.state.value}, and removes old checkpoints by itself (checkpoint.keep_last)",
                remedy=f"`launcher cancel {now.run_id}` first, or let it go on",
            )
        )


def _newest_good(
    run: RunDir, steps: Sequence[int], verify: Callable[[Path], list[str]]
) -> tuple[int | None, dict[int, list[str]]]:
    """The newest checkpoint that verifies, and those after it that do not."""
    bad: dict[int, list[str]] = {}
    for step in reversed(steps):
        found = verify(step_folder(run.checkpoints, step))
        if not found:
            return step, bad
        bad[step] = found
    return None, bad


def remove(folder: Path) -> None:
    """Remove a checkpoint. The manifest goes first: half a checkpoint is none."""
    (folder / MANIFEST).unlink()
    sync_dir(folder)
    shutil.rmtree(folder)
