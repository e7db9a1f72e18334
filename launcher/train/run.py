"""A rank's whole training: process group, data, model, engine, resume, loop. The order of a run, in one file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist

from launcher.checkpoint.manifest import Manifest
from launcher.checkpoint.resume import load_all
from launcher.config.schema import Dtype
from launcher.data.feed.prefetch import prefetch
from launcher.data.feed.samples import Samples
from launcher.data.tokens import TokenStore
from launcher.evaluate.sets import open_sets
from launcher.faultpoints import Point, reach
from launcher.length import step_count
from launcher.models.shape import flops_per_token, shape_of
from launcher.node.ranks import Ranks
from launcher.node.stop import REASONS, StopFlag
from launcher.node.watchdog import Watchdog
from launcher.objectives.registry import objective_of
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.runs.outcome import Ending
from launcher.train.apart import refuse_leak_all
from launcher.train.beforehand import ask_teacher_all
from launcher.train.early import early_stop_all
from launcher.train.engine import build_engine, build_saver, choose_checkpoint_all
from launcher.train.evaluation import compare_all, evaluator_all
from launcher.train.feed import StepData, layout_of, order_of, step_data
from launcher.train.guard import LossGuard
from launcher.train.held_out import losses_before_all
from launcher.train.join import join_all
from launcher.train.loop import Result, Setback, Training, run_loop
from launcher.train.metrics import MetricsWriter
from launcher.train.parts import Parts
from launcher.train.probe import probe_all
from launcher.train.rollout import Play, play_all
from launcher.train.schedule import learning_rate
from launcher.train.setback import (
    owes_evaluation_all,
    recent_losses_all,
    refuse_rollback,
    skip_all,
    skips_all,
)
from launcher.train.skips import Skip
from launcher.train.teacher import teacher_all

PREFETCH_STEPS = 2
LAST_WRITE_S = 60.0
"""How long a rank that leaves early waits for the checkpoint that it is writing."""


def train(plan: RunPlan, run: RunDir, ranks: Ranks, stop: StopFlag, watchdog: Watchdog, device: torch.device) -> Result:
    """Train as planned; the same result on every rank. The process group is there when it returns."""
    # Whatever reads a checkpoint or a model file reads data, never code.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    # Which collective DeepSpeed calls is not the user's concern, and it would be told at every step.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    join_all(plan, run, ranks, device)
    reach(Point.joined, rank=ranks.rank)
    store = TokenStore(Path(os.environ["LAUNCHER_TRAIN_TOKENS"]))
    needs = objective_of(plan.config).needs
    samples = Samples(store, packed=plan.config.data.packing, mismatched=needs.mismatched)
    order = order_of(plan.train_data, samples, plan.config.train.seed)
    chosen = choose_checkpoint_all(plan, run, ranks, data=store.folder.name)
    held_out = open_sets(plan, mismatched=needs.mismatched)
    sets = {"train": samples, **{key: one.samples for key, one in held_out.items()}}
    signal = ask_teacher_all(plan, run, ranks, stop, watchdog, device, sets)
    if signal is not None:
        step = 0 if chosen is None else chosen.manifest.step
        return Result(state=Ending.stopped, reason=REASONS[signal], step=step, signal=signal)
    engine = build_engine(plan, device, chosen)
    saver = build_saver(plan, run, engine, ranks, data=store.folder.name)
    manifest = load_all(engine, chosen)
    reach(Point.loaded, rank=ranks.rank)
    if samples.packed:
        refuse_leak_all(engine, device)
    teacher = teacher_all(plan, device)
    parts = Parts(plan, run, ranks, stop, watchdog, device, engine, saver, samples, order, held_out, teacher)
    play = play_all(parts)
    signal = compare_all(parts, trained=chosen is not None)
    if signal is not None:
        return Result(state=Ending.stopped, reason=REASONS[signal], step=0, signal=signal)
    skips = skips_all(run)
    try:
        while True:
            result = _train_from(parts, play, manifest, skips)
            if isinstance(result, Result):
                if result.state is Ending.completed:
                    probe_all(parts, result.step)
                return result
            with watchdog.saving():
                saver.finish_all()
                chosen = choose_checkpoint_all(plan, run, ranks, data=store.folder.name)
                refuse_rollback(plan, result, skips, chosen)
                manifest = load_all(engine, chosen)
                assert manifest is not None, "refused above"
            skips = skip_all(plan, run, result, skips, to=manifest.step, attempt=ranks.attempt, order=order)
    finally:
        saver.close(LAST_WRITE_S)


def leave_group() -> None:
    """End the process group; not where training failed: the other ranks may wait in a collective for ever."""
    dist.destroy_process_group()


def _train_from(parts: Parts, play: Play | None, manifest: Manifest | None, skips: Sequence[Skip]) -> Result | Setback:
    """From a checkpoint, or the beginning, to an end or a setback."""
    plan, run, ranks = parts.plan, parts.run, parts.ranks
    config = plan.config
    total_steps = step_count(config, parts.order.epoch_size)
    start = manifest.step if manifest is not None else 0
    stop_at = min(config.train.stop_at or total_steps, total_steps)
    if ranks.rank == 0:
        facts = {"step": start, "total_steps": total_steps, "world_size": ranks.world_size}
        record(run, Event.training_started, ranks.attempt, **facts)
    metrics = _metrics(parts, start, tokens=manifest.tokens if manifest is not None else 0)
    due = start in (0, total_steps) or (config.train.eval_every is not None and start % config.train.eval_every == 0)
    seed = config.train.seed
    objective = parts.objective()
    early = early_stop_all(config, run, start)
    with _data(parts, play, start, stop_at, skips) as data:
        return run_loop(
            Training(
                engine=parts.engine,
                objective=objective,
                data=data,
                device=parts.device,
                learning_rate=lambda step: learning_rate(config.schedule, config.optim.lr, step, total_steps),
                evaluate=evaluator_all(parts, play, metrics, early, start),
                warn=lambda step, reason: _warn(parts, step, reason),
                saver=parts.saver,
                metrics=metrics,
                guard=LossGuard(
                    config.guard,
                    recent_losses_all(run, config.guard, start),
                    scaled=config.precision.dtype is Dtype.fp16,
                ),
                stop=parts.stop,
                watchdog=parts.watchdog,
                seed=seed,
                start=start,
                total_steps=total_steps,
                stop_at=stop_at,
                unit=objective.needs.unit,
                eval_every=config.train.eval_every,
                save_every=config.checkpoint.every_steps,
                early=early,
                save_with_evaluation=config.train.patience is not None,
                evaluates=bool(plan.eval_data),
                owes_evaluation=owes_evaluation_all(run, start, due=due and bool(plan.eval_data)),
            )
        )


def _data(
    parts: Parts, play: Play | None, start: int, stop: int, skips: Sequence[Skip]
) -> AbstractContextManager[Iterable[StepData]]:
    """Data of these steps: of answers to be given, or of rows, made ahead."""
    if play is not None:
        return nullcontext(play.steps(start, stop, skips))
    config, batch = parts.plan.config, parts.plan.batch
    feed = step_data(
        parts.samples,
        parts.order,
        layout_of(config, batch),
        batch,
        rank=parts.ranks.rank,
        start=start,
        stop=stop,
        per=objective_of(config).needs.per,
        skips=skips,
    )
    return prefetch(feed, PREFETCH_STEPS)


def _metrics(parts: Parts, start: int, tokens: int) -> MetricsWriter:
    shape = shape_of(parts.engine.module.config.to_dict())
    meta, memory = parts.samples.store.meta, parts.plan.memory
    return MetricsWriter(
        parts.run.metrics if parts.ranks.rank == 0 else None,
        attempt=parts.ranks.attempt,
        tokens=tokens,
        flops_per_token=flops_per_token(shape, meta.tokens / meta.rows, memory.trained_share),
        world_size=parts.ranks.world_size,
        device=parts.device,
        recent=losses_before_all(parts.run, start) if parts.held_out else [],
    )


def _warn(parts: Parts, step: int, reason: str) -> None:
    if parts.ranks.rank == 0:
        record(parts.run, Event.number_warning, parts.ranks.attempt, step=step, reason=reason)
