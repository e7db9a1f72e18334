"""Stopping early: when a held-out measure has not become better for a while.

Owns the verdict. It is the same on every rank, because every rank holds the same measures, and the same after a resume,
because earlier ones are read back.
"""

from __future__ import annotations

from collections.abc import Mapping

from launcher.checkpoint.retain import HeldOut
from launcher.config.schema import Config
from launcher.errors import Problem, UserError
from launcher.rundir import RunDir
from launcher.train.agree import from_rank0


class EarlyStop:
    """Watches one measure of one run."""

    def __init__(self, metric: str, patience: int | None, earlier: Mapping[int, float]) -> None:
        """`earlier` are costs by step (`HeldOut`); with no `patience` nothing ever stops."""
        self._metric, self._patience = metric, patience
        self._costs = dict(earlier)

    def note(self, step: int, measured: Mapping[str, float]) -> None:
        """What was measured after `step` optimiser steps; UserError where the measure is not among it."""
        if self._metric not in measured:
            message = f"{self._metric!r} is not measured by this objective"
            raise UserError(Problem(where="checkpoint.best_by", message=message, valid=", ".join(measured)))
        self._costs[step] = HeldOut.cost(self._metric, measured[self._metric])

    @property
    def reason(self) -> str | None:
        """Why the run stops now; None while it goes on."""
        if self._patience is None or not self._costs:
            return None
        best = self.best
        since = sum(step > best for step in self._costs)
        if since < self._patience:
            return None
        value = HeldOut.cost(self._metric, self._costs[best])
        return f"{self._metric} was best at step {best} ({value:.4g}), and not better in {since} evaluations since"

    @property
    def best(self) -> int:
        """The step with the best value; of equals the first, since none after it was better."""
        return min(self._costs, key=lambda step: (self._costs[step], step))


def early_stop_all(config: Config, run: RunDir, start: int) -> EarlyStop:
    """What watches a run that goes on from `start`; collective."""
    metric, patience = config.checkpoint.best_by, config.train.patience
    if patience is None:
        return EarlyStop(metric, None, {})

    def read() -> dict[int, float]:
        return {step: cost for step, cost in HeldOut(run.metrics, metric).read().items() if step <= start}

    return EarlyStop(metric, patience, from_rank0(read))
