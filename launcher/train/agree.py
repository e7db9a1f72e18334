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

    loss: float
    """Sum of losses over all ranks."""
    samples: int
    """Checksum of all samples that were fed (`data.feed.order.checksum`)."""
    stopped_by: int | None
    """Signal that any rank got, if one did."""


def agree_all(stop: StopFlag, loss: torch.Tensor, samples: int) -> Agreed:
    """Sum `loss` [] (float64, on the rank's device) and `samples` over ranks, and hear whether any must stop."""
    facts = torch.tensor([samples, *_votes(stop)], dtype=torch.float64, device=loss.device)
    summed = torch.cat([loss.reshape(1), facts])
    dist.all_reduce(summed)
    total, fed, *counts = summed.tolist()
    return Agreed(loss=total, samples=int(fed), stopped_by=_first(counts))


def stopped_all(stop: StopFlag, device: torch.device) -> int | None:
    """The signal that any rank got; collective."""
    votes = torch.tensor(_votes(stop), dtype=torch.float64, device=device)
    dist.all_reduce(votes)
    return _first(votes.tolist())


def _votes(stop: StopFlag) -> list[float]:
    return [float(stop.signal == number) for number in SIGNALS]


def _first(counts: list[float]) -> int | None:
    return next((number for number, count in zip(SIGNALS, counts, strict=True) if count), None)
