"""A rank's whole training: process group, data, model, engine, resume, loop. The order of a run, in one file."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist

from launcher.checkpoint.save import Saver
from launcher.data.prefetch import prefetch
from launcher.data.tokens import TokenStore
from launcher.evaluate.held_out import held_out_loss_all
from launcher.models.shape import flops_per_token, shape_of
from launcher.node.ranks import Ranks
from launcher.node.stop import StopFlag
from launcher.objectives.registry import load as load_objective
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.train.engine import build_engine, build_saver, resume_all
from launcher.train.feed import step_data
from launcher.train.loop import Result, Training, run_loop
from launcher.train.metrics import MetricsWriter
from launcher.train.schedule import learning_rate

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""After this a collective counts as hung. Nothing slow (tokenising, downloads) happens inside one."""
CLOSE_TIMEOUT_S = 60.0
"""For a save under way when training ends; one that waits for a dead rank would wait for ever."""
PREFETCH_STEPS = 2
PAD_ID = 0
"""Fills rows up. No row attends to it and no loss counts it, so any id of the vocabulary does."""


def train(plan: RunPlan, run: RunDir, ranks: Ranks, stop: StopFlag, device: torch.device) -> Result:
    """Train as planned; the same result on every rank."""
    # Whatever reads a checkpoint or a model file reads data, never code.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    # Which collective DeepSpeed calls is not the user's concern, and it would be told at every step.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(dist_backend=backend, timeout=COLLECTIVE_TIMEOUT, verbose=False)
    result = _train(plan, run, ranks, stop, device)
    # Not where training failed: ending a group whose other ranks wait in a collective may itself wait for them.
    dist.destroy_process_group()
    return result


def _train(plan: RunPlan, run: RunDir, ranks: Ranks, stop: StopFlag, device: torch.device) -> Result:
    config = plan.config
    store = TokenStore(Path(os.environ["LAUNCHER_TRAIN_TOKENS"]))
    total_steps = step_count(plan, len(store))
    engine = build_engine(plan, device)
    saver = build_saver(plan, run, engine, ranks, data=store.folder.name)
    manifest = resume_all(plan, run, engine, ranks, data=store.folder.name)
    start = manifest.step if manifest is not None else 0
    stop_at = min(config.train.stop_at or total_steps, total_steps)
    if ranks.rank == 0:
        facts = {"step": start, "total_steps": total_steps, "world_size": ranks.world_size}
        record(run, Event.training_started, ranks.attempt, **facts)
    shape = shape_of(engine.module.config.to_dict())
    metrics = MetricsWriter(
        run.metrics if ranks.rank == 0 else None,
        attempt=ranks.attempt,
        tokens=manifest.tokens if manifest is not None else 0,
        flops_per_token=flops_per_token(shape, store.meta.tokens / store.meta.rows),
        world_size=ranks.world_size,
        device=device,
    )
    objective = load_objective(config.objective.name)
    feed = step_data(
        store, plan.batch, seed=config.train.seed, rank=ranks.rank, pad_id=PAD_ID, start=start, stop=stop_at
    )
    with prefetch(feed, PREFETCH_STEPS) as data, closing_save(saver):
        return run_loop(
            Training(
                engine=engine,
                objective=objective,
                data=data,
                device=device,
                learning_rate=lambda step: learning_rate(config.schedule, config.optim.lr, step, total_steps),
                evaluate=_evaluator(plan, engine, metrics, device),
                saver=saver,
                metrics=metrics,
                stop=stop,
                seed=config.train.seed,
                start=start,
                total_steps=total_steps,
                stop_at=stop_at,
                eval_every=config.train.eval_every,
                save_every=config.checkpoint.every_steps,
            )
        )


@contextmanager
def closing_save(saver: Saver) -> Iterator[None]:
    """However training ends, a save that is under way may finish."""
    try:
        yield
    finally:
        saver.close(CLOSE_TIMEOUT_S)


def _evaluator(plan: RunPlan, engine: Any, metrics: MetricsWriter, device: torch.device) -> Callable[[int], None]:
    if plan.eval_data is None:
        return lambda step: None
    objective = load_objective(plan.config.objective.name)
    store = TokenStore(Path(os.environ["LAUNCHER_EVAL_TOKENS"]))

    def evaluate(step: int) -> None:
        micro = plan.batch.micro_batch_size
        loss, tokens = held_out_loss_all(engine, objective, store, micro_batch_size=micro, pad_id=PAD_ID, device=device)
        metrics.evaluation(step, loss=loss, tokens=tokens)

    return evaluate


def step_count(plan: RunPlan, rows: int) -> int:
    """Optimiser steps of the run; from epochs, the last step may reach into the next epoch."""
    train = plan.config.train
    if train.max_steps is not None:
        return train.max_steps
    assert train.epochs is not None
    return max(1, math.ceil(train.epochs * rows / plan.batch.global_batch_size))
