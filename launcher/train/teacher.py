"""The objective's teacher: a frozen model that says what it thinks of every trained token, whenever it is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from launcher.data.feed.batches import MicroBatch
from launcher.models.forward import trained_logits
from launcher.models.teacher import teacher_model
from launcher.objectives.protocol import Judges
from launcher.objectives.registry import objective_of
from launcher.runplan import RunPlan
from launcher.train.apart import refuse_leak_all
from launcher.train.frozen import frozen_all


def teacher_all(plan: RunPlan, device: torch.device) -> Judges | None:
    """The objective's teacher, if it is asked in every step, in compute precision; collective."""
    teacher = objective_of(plan.config).needs.teacher
    if teacher is None or teacher.top_k is not None:
        return None
    held = held_all(plan, device)

    def judge(batch: MicroBatch) -> torch.Tensor:
        with torch.no_grad():
            return trained_logits(held, batch)[0]

    return judge


def held_all(plan: RunPlan, device: torch.device) -> Any:
    """The teacher; collective. UserError where rows are packed and it does not keep them apart."""
    model = teacher_model(plan.config)
    assert model is not None, "the objective has a teacher"
    held = frozen_all(plan, Path(os.environ["LAUNCHER_TEACHER"]), model, device)
    if plan.config.data.packing:
        refuse_leak_all(held, device)
        held.eval()
    return held
