"""The training loop, on one screen. It knows no objective by name, no cluster and no file format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from launcher.checkpoint.save import Position, Saver
from launcher.config.survival import Guard
from launcher.faultpoints import Point, reach
from launcher.node.stop import REASONS, StopFlag
from launcher.node.watchdog import Watchdog
from launcher.objectives.protocol import Looking, Objective
from launcher.runs.outcome import Ending
from launcher.train.agree import agree_all, stopped_all
from launcher.train.early import EarlyStop
from launcher.train.engine import whole_gradient_norm
from launcher.train.feed import StepData
from launcher.train.guard import LossGuard
from launcher.train.metrics import MetricsWriter
from launcher.train.randomness import reseed


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How training ended."""

    state: Ending
    """Completed or stopped."""
    reason: str
    """Why, in words."""
    step: int
    """Optimiser steps done."""
    signal: int | None
    """Signal that stopped it, if one did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setback:
    """Numbers went wrong; what was learnt since the last checkpoint is worth nothing."""

    step: int
    """Optimiser steps done, the bad one included."""
    guard: Guard
    """Stop or rollback."""
    reason: str
    """What was seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Everything that the loop works with."""

    engine: Any
    """DeepSpeed's engine."""
    objective: Objective
    """What is optimised."""
    data: Iterable[StepData]
    """One entry a step, from the step after `start`."""
    device: torch.device
    """Where this rank computes."""
    learning_rate: Callable[[int], float]
    """Rate of a step, from 0."""
    evaluate: Callable[[int], int | None]
    """Evaluate after so many steps, and record it; collective. Given up, with the signal, if any rank must stop."""
    warn: Callable[[int, str], None]
    """Record, on rank 0, that a number went wrong after so many steps."""
    saver: Saver
    """Writes checkpoints; collective."""
    metrics: MetricsWriter
    """Records on rank 0; counts tokens everywhere."""
    guard: LossGuard
    """Judges every step's numbers."""
    stop: StopFlag
    """Whether this rank was told to stop."""
    watchdog: Watchdog
    """Ends a rank that is stuck."""
    seed: int
    """Of the run."""
    start: int
    """Optimiser steps done before."""
    total_steps: int
    """Steps of the whole run."""
    stop_at: int
    """Steps after which this run ends, at most `total_steps`."""
    unit: int
    """Steps that belong together: only after multiples of it does the run stop, save or evaluate."""
    eval_every: int | None
    """Steps between evaluations."""
    save_every: int | None
    """Steps between checkpoints."""
    early: EarlyStop
    """Whether the held-out measures say that it is enough."""
    save_with_evaluation: bool
    """Whether there must be a checkpoint wherever something is evaluated."""
    evaluates: bool
    """Whether there is anything to evaluate on."""
    owes_evaluation: bool
    """Whether the evaluation that belongs to `start` has not been recorded yet."""


def run_loop(run: Training) -> Result | Setback:
    """Train from `start` to the end, or to where all ranks agree to stop, with a checkpoint there."""
    stopped_by = stopped_all(run.stop, run.device)
    if run.owes_evaluation and stopped_by is None:
        stopped_by = run.evaluate(run.start)
    if stopped_by is None and run.early.reason is not None:
        return Result(state=Ending.completed, reason=run.early.reason, step=run.start, signal=None)
    if stopped_by is not None or run.start >= run.stop_at:
        return _result(run, run.start, stopped_by, owed=run.owes_evaluation)
    run.metrics.restart_clock()
    for data in run.data:
        done = data.step + 1
        run.watchdog.step()
        reach(Point.step, rank=dist.get_rank(), step=done)
        rate = _prepare(run, data.step)
        sums, norm = _optimise(run, data)
        agreed = agree_all(run.stop, sums, data.fed)
        loss, *measured = (total / data.weight for total in agreed.sums)
        run.metrics.step(
            done,
            loss=loss,
            lr=rate,
            grad_norm=norm,
            trained=data.trained,
            processed=data.processed,
            samples=agreed.samples,
            measured=dict(zip(run.objective.measures, measured, strict=True)),
        )
        verdict, why = run.guard.judge(loss, norm)
        if verdict in (Guard.stop, Guard.rollback):
            return Setback(step=done, guard=verdict, reason=why)
        if verdict is Guard.warn:
            run.warn(done, why)
        # Whoever was told to stop votes for it after every step.
        stopped_by = agreed.stopped_by if done % run.unit == 0 else None
        last = done == run.stop_at or stopped_by is not None
        owed = run.evaluates and (_due(done, run.eval_every) or done == run.total_steps)
        saved = _due(done, run.save_every) or last or (owed and run.save_with_evaluation)
        # A run that is told to stop has little time: what it has learnt comes first.
        if saved:
            _save(run, done, wait=last)
        if owed and stopped_by is None:
            stopped_by = run.evaluate(done)
            owed = stopped_by is not None
            if owed and not saved:
                _save(run, done, wait=True)
        if stopped_by is None and not last and run.early.reason is not None:
            with run.watchdog.saving():
                run.saver.finish_all()
            return Result(state=Ending.completed, reason=run.early.reason, step=done, signal=None)
        if last or stopped_by is not None:
            return _result(run, done, stopped_by, owed=owed)
        run.metrics.restart_clock()
    raise AssertionError("the data ended before the run")


def _prepare(run: Training, step: int) -> float:
    """Random numbers and learning rate of a step (from 0), as functions of it; returns the rate."""
    reseed(run.seed, step, dist.get_rank())
    rate = run.learning_rate(step)
    for group in run.engine.optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
    return rate


def _save(run: Training, done: int, *, wait: bool) -> None:
    with run.watchdog.saving():
        run.saver.save_all(Position(step=done, total_steps=run.total_steps, tokens=run.metrics.tokens), wait=wait)


def _optimise(run: Training, data: StepData) -> tuple[torch.Tensor, float | None]:
    """One optimiser step; returns this rank's sums of losses and of the objective's measures, and the norm of the
    whole gradient before clipping, None where nobody knows it.

    DeepSpeed averages gradients over ranks and accumulation steps. Scaled by their number and divided by what the
    whole global batch weighs, that average is the gradient of the mean loss, however it was cut.
    """
    total = torch.zeros(1 + len(run.objective.measures), dtype=torch.float64, device=run.device)
    scale = dist.get_world_size() * len(data.batches) / data.weight
    if isinstance(run.objective, Looking):
        run.objective.look_all(run.engine, (batch.to(run.device) for batch in data.batches))
    for batch in data.batches:
        scored = run.objective.score(run.engine, batch.to(run.device))
        run.engine.backward(scored.loss_sum * scale)
        norm = whole_gradient_norm(run.engine)
        run.engine.step()
        total += torch.stack([scored.loss_sum.detach(), *(scored.sums[name] for name in run.objective.measures)])
    if reach(Point.loss, rank=dist.get_rank(), step=data.step + 1) == "poison":
        total += math.nan
    told = run.engine.get_global_grad_norm()
    return total, norm if told is None else float(told)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _result(run: Training, done: int, stopped_by: int | None, *, owed: bool) -> Result:
    """How it ended; with an evaluation still owed, a run that was told to stop has not completed."""
    if stopped_by is not None and (done < run.stop_at or owed):
        return Result(state=Ending.stopped, reason=REASONS[stopped_by], step=done, signal=stopped_by)
    reason = "all steps done" if done >= run.total_steps else f"train.stop_at={run.stop_at} reached"
    return Result(state=Ending.completed, reason=reason, step=done, signal=None)
