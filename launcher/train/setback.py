"""Back to the last good checkpoint when numbers went wrong, and past the data that did it.

Owns the bound, the record of what was skipped, and the reading of earlier losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launcher.checkpoint.resume import Chosen
from launcher.config.survival import Guard, GuardConfig
from launcher.data.feed.order import Order
from launcher.errors import NumberError, Problem
from launcher.objectives.registry import objective_of
from launcher.publish import publish_json
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.runs.records import is_step, tail
from launcher.train.agree import from_rank0
from launcher.train.loop import Setback
from launcher.train.skips import Skip, data_step, read_skips, write_skips


def skips_all(run: RunDir) -> list[Skip]:
    """The windows skipped so far; collective."""
    return from_rank0(lambda: read_skips(run))


def recent_losses_all(run: RunDir, guard: GuardConfig, start: int) -> list[float]:
    """Losses of the steps up to `start` that a spike is judged by; collective, and nothing is read where none is."""
    if guard.spike is Guard.off:
        return []

    def read() -> list[float]:
        steps = {record["step"]: record["loss"] for record in tail(run.metrics) if is_step(record)}
        known = [steps[step] for step in sorted(steps) if step <= start and steps[step] is not None]
        return known[-guard.spike_window :]

    return from_rank0(read)


def owes_evaluation_all(run: RunDir, start: int, *, due: bool) -> bool:
    """Whether the evaluation after `start` steps, if one is due there, was never recorded; collective."""
    if not due:
        return False
    return from_rank0(
        lambda: not any("eval_loss" in record and record["step"] == start for record in tail(run.metrics))
    )


def refuse_rollback(plan: RunPlan, setback: Setback, skips: Sequence[Skip], chosen: Chosen | None) -> None:
    """NumberError where there is no going back; the same on every rank."""
    limit = plan.config.guard.max_rollbacks
    why = ""
    if setback.guard is Guard.stop:
        why = "guard.not_a_number and guard.spike say that the run stops here"
    elif chosen is None:
        why = "there is no good checkpoint to go back to"
    elif len(skips) >= limit:
        why = f"the run has gone back {len(skips)} times already (guard.max_rollbacks={limit})"
    if why:
        raise NumberError(
            Problem(where=f"step {setback.step}", message=f"{setback.reason}; {why}", remedy="try a lower optim.lr")
        )


def skip_all(
    plan: RunPlan, run: RunDir, setback: Setback, skips: Sequence[Skip], *, to: int, attempt: int, order: Order
) -> list[Skip]:
    """Note that the data since step `to` is skipped; collective. Returns the list with the new window."""
    window = range(data_step(to, skips), data_step(to, skips) + setback.step - to)
    added = [*skips, Skip(step=to, count=len(window), reason=setback.reason)]

    def write() -> None:
        file = run.attempt(attempt).skipped_rows(to)
        size = plan.batch.global_batch_size // objective_of(plan.config).needs.answers
        steps = {step: order.samples_of_step(step, size).tolist() for step in window}
        publish_json(file, {"reason": setback.reason, "steps": steps})
        write_skips(run, added)
        _tell(run, attempt, setback, file, to, window)

    from_rank0(write)
    return added


def _tell(run: RunDir, attempt: int, setback: Setback, file: Path, to: int, window: range) -> None:
    words = f"back to step {to}: {setback.reason}; the samples skipped are in {file}"
    print(words, flush=True)
    name = str(file.relative_to(run.root))
    fields = {"step": to, "first": window[0], "last": window[-1], "reason": setback.reason, "file": name}
    record(run, Event.rolled_back, attempt, **fields)
