"""The untrained model beside the one in training: frozen, and partitioned like it where that is needed to fit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import deepspeed
import torch

from launcher.models.loading import build_model
from launcher.runplan import RunPlan


def untrained_model(plan: RunPlan, device: torch.device) -> Any:
    """The model as it was before the first step, in evaluation mode; collective. It has no state to save."""
    config = plan.config
    folder = Path(os.environ["LAUNCHER_MODEL"])
    model = build_model(folder, config.model, config.precision.dtype, config.train.seed, plan.deepspeed, device)
    model.requires_grad_(False).eval()
    if config.zero.stage < 3:
        return model.to(device)
    # An engine without an optimiser gathers parameters as they are used, and lets go of them.
    zero = {name: value for name, value in plan.deepspeed["zero_optimization"].items() if name != "offload_optimizer"}
    kept = {name: plan.deepspeed[name] for name in ("bf16", "fp16") if name in plan.deepspeed}
    settings = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero, **kept}
    engine, *_ = deepspeed.initialize(model=model, config=settings, dist_init_required=False)
    engine.eval()
    return engine
