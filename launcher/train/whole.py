"""Whole parameters out of the flat partitions that ZeRO hands to an optimiser, and back into them.

A parameter's elements lie on one rank or on many: at stages 1 and 2 a partition ends wherever it is full, at stage 3
every rank has an even share. Owns that map, and what the ranks must tell each other to see a parameter as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from launcher.checkpoint.states import partitions_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """A parameter, and where it lies."""

    shape: tuple[int, ...]
    """Of the parameter."""
    places: Sequence[tuple[int, int]]
    """By rank: where its share begins in that rank's partition, and elements of it. Shares follow one another."""


Layout = Mapping[int, Sequence[Whole]]
"""By the id of what this rank's optimiser updates: the parameters in it, the same in the same order on every rank."""


def layout_all(engine: Any) -> Layout:
    """Of a fresh engine at ZeRO 1 to 3; collective. The partitions stay the same ones as long as it lives."""
    partitions = partitions_of(engine)
    if engine.zero_optimization_stage() == 3:
        own = [list(_even(group)) for _, group in partitions]
    else:
        own = [[_mapped(parameter) for parameter in group] for _, group in partitions]
    told: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(told, own)
    return {
        id(partition): [
            Whole(
                shape=tuple(getattr(parameter, "ds_shape", parameter.shape)),
                places=[places[number][place] for places in told],
            )
            for place, parameter in enumerate(parameters)
        ]
        for number, (partition, parameters) in enumerate(partitions)
    }


def _even(parameters: Sequence[Any]) -> Iterator[tuple[int, int]]:
    start, rank, ranks = 0, dist.get_rank(), dist.get_world_size()
    for parameter in parameters:
        share = math.ceil(parameter.ds_numel / ranks)
        yield start, max(0, min(share, parameter.ds_numel - rank * share))
        start += share


def _mapped(parameter: Any) -> tuple[int, int]:
    mapping = parameter._hp_mapping
    return (0, 0) if mapping is None else (mapping.hp_fragment_address.start, mapping.lp_fragment_address.numel)


def change_all(
    partition: torch.Tensor, wholes: Sequence[Whole], change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Replace each parameter in the flat `partition` by what `change` makes of it; collective.

    What lies on one rank is changed there. Of the others each is put together on one rank, the next on the next: as
    many are worked on at a time as there are ranks.
    """
    ranks = len(wholes[0].places) if wholes else 1
    rank, cut = dist.get_rank() if ranks > 1 else 0, list[Whole]()
    for whole in wholes:
        start, count = whole.places[rank]
        if count == math.prod(whole.shape):
            share = partition.narrow(0, start, count)
            share.copy_(change(share.view(whole.shape)).reshape(-1))
        elif sum(held > 0 for _, held in whole.places) > 1:
            cut.append(whole)
    for first in range(0, len(cut), ranks):
        _round_all(partition, cut[first : first + ranks], ranks, change)


def _round_all(
    partition: torch.Tensor, wholes: Sequence[Whole], ranks: int, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    rank = dist.get_rank()
    shares = [partition.narrow(0, *whole.places[rank]) for whole in wholes]
    mine = wholes[rank] if rank < len(wholes) else None
    given = [share.numel() for share in shares] + [0] * (ranks - len(shares))
    taken = [0] * ranks if mine is None else [count for _, count in mine.places]
    whole = _exchange_all(torch.cat(shares), given, taken)
    if mine is not None:
        whole = change(whole.view(mine.shape)).to(partition.dtype).reshape(-1)
    changed = _exchange_all(whole, taken, given)
    for share, values in zip(shares, torch.split(changed, given[: len(shares)]), strict=True):
        share.copy_(values)


def _exchange_all(values: torch.Tensor, given: list[int], taken: list[int]) -> torch.Tensor:
    """What the ranks have for this one, of whose `values` each gets so many; collective."""
    received = values.new_empty(sum(taken))
    dist.all_to_all_single(received, values.contiguous(), taken, given)
    return received
