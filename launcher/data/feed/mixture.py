"""Whose turn it is: sources take turns by their shares, so evenly that every stretch of the stream holds them.

Owns the turns. Must not know samples, seeds or files.

Two sources share a stretch of n turns by rounding n times their share. More than two do so in pairs: a Huffman tree
halves the turns, branch by branch, down to the sources. It is a formula, so that turn 10**12 is as near as the first.
Each fork rounds by half a turn at most, of which a source feels its share in the branch, and in such a tree weights
grow from leaf to root at least as Fibonacci's numbers do: any stretch, with an error at either end, differs from a
source's share by less than four turns, 2 * 1 / 2 * (1 / 1 + 1 / 1 + 1 / 2 + 1 / 3 + 1 / 5 + …).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Int64Array: TypeAlias = npt.NDArray[np.int64]

FINEST = 10**9
"""Weights count as whole numbers that add up to this, give or take one a source: 0.7 is exactly 0.7, a weight however
small still has a turn, and products of two such numbers fit 64 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fork:
    """Turns that are shared between two branches."""

    first: _Fork | int
    """A fork, or the number of a source."""
    second: _Fork | int
    """The same."""
    first_parts: int
    """Of `parts` turns in a row, so many are the first branch's."""
    parts: int
    """Both branches' together."""

    def before(self, turns: Int64Array) -> Int64Array:
        """How many of the first `turns` turns are the first branch's: their share, rounded to the nearest."""
        rounds, rest = np.divmod(turns, self.parts)
        part: Int64Array = rounds * self.first_parts + (2 * self.first_parts * rest + self.parts) // (2 * self.parts)
        return part


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """In what proportion sources take turns."""

    parts: tuple[int, ...]
    """Of sum(parts) turns in a row from any multiple of it, so many are each source's, exactly."""
    epoch_size: int | None
    """Turns of one pass; None where only proportions are known."""

    @staticmethod
    def by_weight(weights: Sequence[float]) -> Mixture:
        """Turns in proportion to `weights`, which are positive and need not add up to one."""
        return Mixture(parts=_whole(weights), epoch_size=None)

    @staticmethod
    def by_count(counts: Sequence[int]) -> Mixture:
        """So many turns an epoch for each source; beyond a thousand million an epoch, to that many digits."""
        exact = sum(counts) <= FINEST
        return Mixture(parts=tuple(counts) if exact else _whole(counts), epoch_size=sum(counts))

    def turns(self, places: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Whose turn each of `places` in the stream is, and how many turns that source has had before."""
        sources, turns = np.empty_like(places), np.empty_like(places)
        waiting: list[tuple[_Fork | int, Int64Array, Int64Array]] = [
            (_tree(self.parts), np.arange(places.size), places)
        ]
        while waiting:
            node, where, here = waiting.pop()
            if isinstance(node, int):
                sources[where], turns[where] = node, here
                continue
            before = node.before(here)
            first = node.before(here + 1) > before
            waiting.append((node.first, where[first], before[first]))
            waiting.append((node.second, where[~first], (here - before)[~first]))
        return sources, turns


def _whole(weights: Sequence[float]) -> tuple[int, ...]:
    total = sum(weights)
    return tuple(max(1, round(weight / total * FINEST)) for weight in weights)


@cache
def _tree(parts: tuple[int, ...]) -> _Fork | int:
    """The Huffman tree: the two lightest branches meet first (Huffman, 1952)."""
    heap: list[tuple[int, int, _Fork | int]] = [(part, number, number) for number, part in enumerate(parts)]
    heapq.heapify(heap)
    # Numbers break ties, so that the tree is the same in every process.
    for number in range(len(parts), 2 * len(parts) - 1):
        (light, _, first), (heavy, _, second) = heapq.heappop(heap), heapq.heappop(heap)
        fork = _Fork(first=first, second=second, first_parts=light, parts=light + heavy)
        heapq.heappush(heap, (fork.parts, number, fork))
    return heap[0][2]
