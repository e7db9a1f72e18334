"""What all ranks agree on after a step, or within an evaluation: one small collective for all of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

from launcher.node.stop import REASONS, StopFlag

SIGNALS = tuple(REASONS)
"""Signals in the order in which they are counted over ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreed:
    """The same on every rank."""

    sums: list[float]
    """What was to be added up, over all ranks."""
    samples: int
    """Checksum of all samples that were fed (`data.feed.order.checksum`)."""
    stopped_by: int | None
    """Signal that any rank got, if one did."""


def agree_all(stop: StopFlag, sums: torch.Tensor, samples: int) -> Agreed:
    """Add up `sums` [any] (float64, on the rank's device) and `samples` over ranks; hear whether any must stop."""
    facts = torch.tensor([samples, *_votes(stop)], dtype=torch.float64, device=sums.device)
    summed = torch.cat([sums, facts])
    dist.all_reduce(summed)
    totals = summed.tolist()
    fed, *counts = totals[len(sums) :]
    return Agreed(sums=totals[: len(sums)], samples=int(fed), stopped_by=_first(counts))


def stopped_all(stop: StopFlag, device: torch.device) -> int | None:
    """The signal that any rank got; collective."""
    votes = torch.tensor(_votes(stop), dtype=torch.float64, device=device)
    dist.all_reduce(votes)
    return _first(votes.tolist())


def _votes(stop: StopFlag) -> list[float]:
    return [float(stop.signal == number) for number in SIGNALS]


def _first(counts: list[float]) -> int | None:
    return next((number for number, count in zip(SIGNALS, counts, strict=True) if count), None)
