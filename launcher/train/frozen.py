"""A frozen model beside the one that trains: partitioned like it under ZeRO-3, else whole on every rank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import deepspeed
import torch

from launcher.config.adapter import AdapterKind
from launcher.config.schema import ModelConfig
from launcher.models.loading import build_model
from launcher.objectives.protocol import Head
from launcher.runplan import RunPlan

_KEPT = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "bf16",
    "fp16",
    "steps_per_print",
    "wall_clock_breakdown",
)


def frozen_all(plan: RunPlan, folder: Path, model: ModelConfig, device: torch.device, head: Head | None = None) -> Any:
    """The model in `folder`, in compute precision and evaluation mode; collective. It has no state to save."""
    config = plan.config
    # As it comes: adapters and quantisation are for what is trained.
    whole = replace(config.adapter, kind=AdapterKind.full)
    # Nothing flows back through it, so that there is nothing to recompute.
    own = replace(model, activation_checkpointing=False, freeze=[])
    held: Any = build_model(folder, own, whole, config.precision.dtype, config.train.seed, plan.deepspeed, device, head)
    held.requires_grad_(False)
    if config.zero.stage == 3:
        # An engine without an optimiser gathers parameters as they are used, and lets go of them.
        held, *_ = deepspeed.initialize(model=held, config=_frozen(plan.deepspeed), dist_init_required=False)
    else:
        held = held.to(device)
    held.eval()
    return held


def let_go(held: Any) -> None:
    """Free such a model's memory; it is of no use any more."""
    if hasattr(held, "destroy"):
        held.destroy()
    # DeepSpeed's engine stays known to its own hooks and to the process, so that no collector frees what it holds.
    for parameter in held.parameters():
        parameter.data = parameter.data.new_empty(0)
        if hasattr(parameter, "ds_tensor"):
            parameter.ds_tensor.data = parameter.ds_tensor.data.new_empty(0)


def _frozen(document: dict[str, Any]) -> dict[str, Any]:
    """DeepSpeed's config of the run, for a model without an optimiser: only stage 3's fetching is left."""
    kept = {name: document[name] for name in _KEPT}
    zero = {name: value for name, value in document["zero_optimization"].items() if name != "offload_optimizer"}
    return {**kept, "zero_optimization": zero}
