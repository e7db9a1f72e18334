"""The training loop, on one screen. It knows no objective by name, no cluster and no file format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from launcher.checkpoint.save import Position, Saver
from launcher.data.prefetch import Prefetcher
from launcher.node.stop import REASONS, StopFlag
from launcher.objectives.protocol import Objective
from launcher.runs.outcome import Ending
from launcher.train.engine import whole_gradient_norm
from launcher.train.feed import StepData
from launcher.train.metrics import MetricsWriter
from launcher.train.randomness import reseed

SIGNALS = tuple(REASONS)
"""Signals in the order in which they are counted over ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """How training ended."""

    state: Ending
    """Completed or stopped."""
    reason: str
    """Why, in words."""
    step: int
    """Optimiser steps done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """Everything that the loop works with."""

    engine: Any
    """DeepSpeed's engine."""
    objective: Objective
    """What is optimised."""
    data: Prefetcher[StepData]
    """One entry a step, from the step after `start`."""
    device: torch.device
    """Where this rank computes."""
    learning_rate: Callable[[int], float]
    """Rate of a step, from 0."""
    evaluate: Callable[[int], None]
    """Evaluate after so many steps, and record it; collective."""
    saver: Saver
    """Writes checkpoints; collective."""
    metrics: MetricsWriter
    """Records on rank 0; counts tokens everywhere."""
    stop: StopFlag
    """Whether this rank was told to stop."""
    seed: int
    """Of the run."""
    start: int
    """Optimiser steps done before."""
    total_steps: int
    """Steps of the whole run."""
    stop_at: int
    """Steps after which this run ends, at most `total_steps`."""
    eval_every: int | None
    """Steps between evaluations."""
    save_every: int | None
    """Steps between checkpoints."""


def run_loop(run: Training) -> Result:
    """Train from `start` to the end, or to where all ranks agree to stop, with a checkpoint there."""
    # At the end there is something to evaluate if an attempt died between its last checkpoint and its evaluation.
    if run.start in (0, run.total_steps):
        run.evaluate(run.start)
    run.metrics.restart_clock()
    for data in run.data:
        reseed(run.seed, data.step, dist.get_rank())
        rate = run.learning_rate(data.step)
        for group in run.engine.optimizer.param_groups:
            group["lr"] = rate
        loss_sum, norm = _optimise(run, data)
        loss, stopped_by = _agree(run, loss_sum)
        done = data.step + 1
        run.metrics.step(
            done,
            loss=loss / data.trained,
            lr=rate,
            grad_norm=norm,
            trained=data.trained,
            processed=data.processed,
        )
        last = done == run.stop_at or stopped_by is not None
        # A run that is told to stop has little time: what it has learnt comes first.
        if _due(done, run.save_every) or last:
            position = Position(step=done, total_steps=run.total_steps, tokens=run.metrics.tokens)
            run.saver.save_all(position, wait=last)
        if (_due(done, run.eval_every) or done == run.total_steps) and stopped_by is None:
            run.evaluate(done)
        if last:
            return _result(run, done, stopped_by)
        run.metrics.restart_clock()
    return _result(run, run.start, None)


def _optimise(run: Training, data: StepData) -> tuple[torch.Tensor, float]:
    """One optimiser step; returns this rank's sum of losses and the norm of the whole gradient before clipping.

    DeepSpeed averages gradients over ranks and accumulation steps. Scaled by their number and divided by the trained
    tokens of the whole global batch, that average is the gradient of the mean loss per token, however it was cut.
    """
    total = torch.zeros((), dtype=torch.float64, device=run.device)
    scale = dist.get_world_size() * len(data.batches) / data.trained
    for batch in data.batches:
        loss = run.objective.loss_sum(run.engine, batch.to(run.device))
        run.engine.backward(loss * scale)
        norm = whole_gradient_norm(run.engine)
        run.engine.step()
        total += loss.detach()
    told = run.engine.get_global_grad_norm()
    return total, norm if told is None else float(told)


def _agree(run: Training, loss: torch.Tensor) -> tuple[float, int | None]:
    """Sum of losses over ranks, and the signal that any rank got: one small collective for both."""
    votes = torch.tensor([run.stop.signal == number for number in SIGNALS], dtype=torch.float64, device=run.device)
    summed = torch.cat([loss.reshape(1), votes])
    dist.all_reduce(summed)
    total, *counts = summed.tolist()
    return total, next((number for number, count in zip(SIGNALS, counts, strict=True) if count), None)


def _due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _result(run: Training, done: int, stopped_by: int | None) -> Result:
    if done < run.stop_at:
        assert stopped_by is not None, "the data ended before the run"
        return Result(state=Ending.stopped, reason=REASONS[stopped_by], step=done)
    reason = "all steps done" if done >= run.total_steps else f"train.stop_at={run.stop_at} reached"
    return Result(state=Ending.completed, reason=reason, step=done)
