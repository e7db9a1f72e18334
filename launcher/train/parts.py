"""What a rank trains with, from its start to its end, and how it hears that it must stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from launcher.checkpoint.save import Saver
from launcher.data.feed.order import Order
from launcher.data.feed.samples import Samples
from launcher.evaluate.sets import HeldOutSet
from launcher.node.ranks import Ranks
from launcher.node.stop import StopFlag
from launcher.node.watchdog import Watchdog
from launcher.objectives.protocol import Judges, Objective, Taught
from launcher.objectives.registry import objective_of
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.train.agree import stopped_all


@dataclass(frozen=True, slots=True)
class Parts:
    """What stays the same however often a run goes back."""

    plan: RunPlan
    run: RunDir
    ranks: Ranks
    stop: StopFlag
    watchdog: Watchdog
    device: torch.device
    engine: Any
    saver: Saver
    samples: Samples
    order: Order
    held_out: Mapping[str, HeldOutSet]
    teacher: Judges | None = None

    def objective(self) -> Objective:
        """The run's, given its teacher; what one has looked at, another has not."""
        made = objective_of(self.plan.config)
        if self.teacher is not None:
            assert isinstance(made, Taught), f"{made.name} asks for a teacher, and takes none"
            made.learn_from(self.teacher)
        return made


class Ear:
    """Hears, while no step is made, whether any rank must stop."""

    def __init__(self, stop: StopFlag, device: torch.device) -> None:
        self._stop, self._device = stop, device
        self.signal: int | None = None

    def stopped(self) -> bool:
        """Collective."""
        self.signal = stopped_all(self._stop, self._device)
        return self.signal is not None
