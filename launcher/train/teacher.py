"""The objective's teacher: a frozen model that says what it thinks of every trained token."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from launcher.data.feed.batches import MicroBatch
from launcher.models.forward import trained_logits
from launcher.models.teacher import teacher_model
from launcher.objectives.protocol import Judges
from launcher.runplan import RunPlan
from launcher.train.apart import refuse_leak_all
from launcher.train.frozen import frozen_all


def teacher_all(plan: RunPlan, device: torch.device) -> Judges | None:
    """The objective's teacher, if it has one, in compute precision; collective."""
    model = teacher_model(plan.config)
    if model is None:
        return None
    held = frozen_all(plan, Path(os.environ["LAUNCHER_TEACHER"]), model, device)
    if plan.config.data.packing:
        refuse_leak_all(held, device)

    def judge(batch: MicroBatch) -> torch.Tensor:
        with torch.no_grad():
            return trained_logits(held, batch)[0]

    return judge
