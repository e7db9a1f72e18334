"""Removing checkpoints of a run that has ended, on its user's word. While it is active it prunes by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.checkpoint.commit import remove_folder
from launcher.checkpoint.copies import prune_universal
from launcher.checkpoint.manifest import committed_steps, step_folder
from launcher.checkpoint.retain import HeldOut, policy_for, to_remove
from launcher.checkpoint.verify import faults
from launcher.errors import Problem, UserError
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
    """What the run's config keeps; with `last`, the newest so many instead of `checkpoint.keep_last`."""
    config = RunPlan.load(run.plan).config
    policy = policy_for(config)
    policy = policy if last is None else replace(policy, last=last)
    costs = HeldOut(run.metrics, policy.best_by).read()
    return lambda steps: to_remove(steps, policy, costs)


def prune(
    run: RunDir,
    goes: ToRemove,
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
    removed = [step for step in goes(steps) if step != good]
    if steps and good is None:
        # What is damaged may still be worth mending, and there is nothing better.
        removed = []
    if not dry_run:
        for step in removed:
            remove_folder(step_folder(run.checkpoints, step))
        prune_universal(run.checkpoints, committed_steps(run.checkpoints))
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
