"""DeepSpeed's engine around the model: built for the checkpoint to go on from, and given our checkpoint engine."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import logger as deepspeed_logger

from launcher.checkpoint.lineage import read_lineage
from launcher.checkpoint.manifest import BASE, MANIFEST_VERSION, Manifest
from launcher.checkpoint.resume import Chosen, newest_good_all, require_same_run
from launcher.checkpoint.retain import policy_for
from launcher.checkpoint.save import Saver
from launcher.checkpoint.trained import save_trained_only, trains_in_part
from launcher.models.heap import give_back
from launcher.models.loading import build_model
from launcher.node.ranks import Ranks
from launcher.objectives.registry import objective_of
from launcher.plain import plain
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.train.adafactor import Adafactor
from launcher.train.average import keep_average
from launcher.train.base import base_mark_all, require_names_all
from launcher.train.muon import Muon
from launcher.train.optimiser import build_optimiser
from launcher.train.pull import pull_to_start
from launcher.train.software import software
from launcher.train.whole import layout_all


def build_engine(plan: RunPlan, device: torch.device, chosen: Chosen | None) -> Any:
    """Model, optimiser and engine, ready to load what was chosen; collective."""
    deepspeed_logger.setLevel(logging.WARNING)
    config = plan.config
    folder = Path(os.environ["LAUNCHER_MODEL"])
    head = objective_of(config).needs.head
    model = build_model(
        folder,
        config.model,
        config.adapter,
        config.precision.dtype,
        config.train.seed,
        plan.deepspeed,
        device,
        head,
    )
    require_names_all(model)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=build_optimiser(config, model, device),
        config={**plan.deepspeed, "checkpoint": {"load_universal": chosen is not None and chosen.universal}},
        dist_init_required=False,
    )
    if isinstance(engine.basic_optimizer, Muon | Adafactor):
        engine.basic_optimizer.layout = layout_all(engine)
    give_back()
    if trains_in_part(engine.module):
        save_trained_only(engine)
    if config.optim.pull_to_start:
        pull_to_start(engine, config.optim.pull_to_start)
    if config.optim.ema_decay is not None:
        keep_average(engine, config.optim.ema_decay)
    return engine


def whole_gradient_norm(engine: Any) -> float | None:
    """Norm of the gradient that the next step takes, where every rank holds all of it (stage 0).

    DeepSpeed's partitioned optimisers tell the norm after the step; at stage 0 it clips and forgets it.
    """
    if engine.zero_optimization_stage() != 0 or not engine.is_gradient_accumulation_boundary():
        return None
    gradients = [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def _note_versions(run: RunDir, ranks: Ranks, manifest: Manifest) -> None:
    """Tell of software that is not what wrote the checkpoint; what it loads says whether that matters."""
    now = software()
    names = [f"{name}: {was} → {now.get(name)}" for name, was in manifest.versions.items() if was != now.get(name)]
    if names:
        print(f"the checkpoint was written by other software: {', '.join(names)}", flush=True)
        record(run, Event.drift_noted, ranks.attempt, names=names)


def build_saver(plan: RunPlan, run: RunDir, engine: Any, ranks: Ranks, *, data: str) -> Saver:
    """The writer of this run's checkpoints; from here on DeepSpeed reads and writes files through ours; collective."""
    config, base = plan.config, base_mark_all(plan.config)
    draft = Manifest(
        version=MANIFEST_VERSION,
        step=0,
        total_steps=0,
        tokens=0,
        attempt=ranks.attempt,
        world_size=ranks.world_size,
        zero_stage=config.zero.stage,
        dtype=config.precision.dtype.value,
        data=data,
        shards=[],
        fingerprint=plain(plan.fingerprint) | ({} if base is None else {BASE: base}),
        versions=software(),
        # Rank 0 alone writes manifests.
        lineage=_lineage(run) if ranks.rank == 0 else {},
    )
    return Saver(engine, run, draft=draft, policy=policy_for(config), asynchronous=config.checkpoint.asynchronous)


def _lineage(run: RunDir) -> dict[str, str]:
    known = read_lineage(run)
    return {} if known is None else known.words()


def choose_checkpoint_all(plan: RunPlan, run: RunDir, ranks: Ranks, *, data: str) -> Chosen | None:
    """The newest good checkpoint, if there is one; collective. Says which were passed over, and why.

    UserError when it was written with another ZeRO stage, from other data, or over another base.
    """
    chosen, passed = newest_good_all(run.checkpoints)
    if ranks.rank == 0:
        for step, reason in passed:
            print(f"checkpoint at step {step} is passed over: {reason}", flush=True)
            record(run, Event.passed_over, ranks.attempt, step=step, reason=reason)
    if chosen is not None:
        # Whoever accepted other data on resuming has been heard.
        data = chosen.manifest.data if plan.accepted else data
        require_same_run(chosen.manifest, stage=plan.config.zero.stage, data=data, base=base_mark_all(plan.config))
        if ranks.rank == 0:
            _note_versions(run, ranks, chosen.manifest)
    return chosen
