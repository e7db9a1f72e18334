"""The frozen model beside the one that trains: partitioned like it under ZeRO-3, else whole on every rank."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import deepspeed
import torch

from launcher.config.adapter import AdapterKind
from launcher.data.feed.batches import MicroBatch
from launcher.models.forward import trained_logits
from launcher.models.loading import build_model
from launcher.models.teacher import teacher_model
from launcher.objectives.protocol import Judges
from launcher.runplan import RunPlan
from launcher.train.apart import refuse_leak_all

_KEPT = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "bf16",
    "fp16",
    "steps_per_print",
    "wall_clock_breakdown",
)


def teacher_all(plan: RunPlan, device: torch.device) -> Judges | None:
    """The objective's teacher, if it has one, in compute precision; collective."""
    config = plan.config
    model = teacher_model(config)
    if model is None:
        return None
    folder = Path(os.environ["LAUNCHER_TEACHER"])
    # As it comes: adapters and quantisation are for what is trained.
    whole = replace(config.adapter, kind=AdapterKind.full)
    held: Any = build_model(folder, model, whole, config.precision.dtype, config.train.seed, plan.deepspeed, device)
    held.requires_grad_(False)
    if config.zero.stage == 3:
        held, *_ = deepspeed.initialize(model=held, config=_frozen(plan.deepspeed), dist_init_required=False)
    else:
        held = held.to(device)
    if config.data.packing:
        refuse_leak_all(held, device)
    held.eval()

    def judge(batch: MicroBatch) -> torch.Tensor:
        with torch.no_grad():
            return trained_logits(held, batch)[0]

    return judge


def _frozen(document: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed's config of the run, for a model without an optimiser: only stage 3's fetching is left."""
    kept = {name: document[name] for name in _KEPT}
    zero = {name: value for name, value in document["zero_optimization"].items() if name != "offload_optimizer"}
    return {**kept, "zero_optimization": zero}
