"""What all ranks know alike: what they agree on after a step or within an evaluation, in one small collective, and
what rank 0 alone reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from launcher.errors import Problem, StorageError
from launcher.node.stop import REASONS, StopFlag

T = TypeVar("T")
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


def from_rank0(make: Callable[[], T]) -> T:
    """What rank 0 makes, on every rank; collective. Its OSError is a StorageError on all: none waits."""
    made: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            made[0] = make()
        except OSError as error:
            made[1] = str(error)
    dist.broadcast_object_list(made, src=0)
    if made[1] is not None:
        raise StorageError(Problem(where="run directory", message=made[1], remedy="free space, then `launcher resume`"))
    value: T = made[0]
    return value


def _votes(stop: StopFlag) -> list[float]:
    return [float(stop.signal == number) for number in SIGNALS]


def _first(counts: list[float]) -> int | None:
    return next((number for number, count in zip(SIGNALS, counts, strict=True) if count), None)
