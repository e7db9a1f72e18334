"""Which samples an optimiser step sees: an exact shuffle in constant memory, a function of (seed, step) alone.

Owns the order of samples. Must not know of ranks, files or torch, nor what a sample is: a run that resumes, on any
number of GPUs, asks for the same step and gets the same samples.

The shuffle is a balanced Feistel network over the smallest even-width binary domain that holds `n`, with cycle
walking to stay inside it (Black & Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). The round function is
the splitmix64 finaliser (Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from launcher.data.feed.mixture import Mixture

Int64Array: TypeAlias = npt.NDArray[np.int64]
UInt64Array: TypeAlias = npt.NDArray[np.uint64]

# Four rounds suffice for large domains; the narrow halves of small data sets mix little per round.
_ROUNDS = 8
_MASK64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(value: int) -> int:
    """One splitmix64 output for the state `value`."""
    value = (value + _GOLDEN) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def _mix_array(values: UInt64Array) -> UInt64Array:
    """`_mix` of each element; uint64 arithmetic wraps, as the algorithm wants."""
    values = values + np.uint64(_GOLDEN)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _feistel(values: UInt64Array, half_bits: int, key: int) -> UInt64Array:
    """A keyed bijection of range(4 ** half_bits), element by element."""
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for number in range(_ROUNDS):
        round_key = np.uint64(_mix(key + number * _GOLDEN))
        left, right = right, left ^ (_mix_array(right ^ round_key) & mask)
    return (left << shift) | right


def permute(indices: Int64Array, n: int, key: int) -> Int64Array:
    """Where the permutation of range(n) named by `key` sends each of `indices` (any shape, each in range(n))."""
    assert n > 0, "there is no order of nothing"
    assert indices.size == 0 or (indices.min() >= 0 and indices.max() < n), "an index is outside range(n)"
    half_bits = max(1, ((n - 1).bit_length() + 1) // 2)
    values = _feistel(indices.astype(np.uint64), half_bits, key)
    # The domain is less than 4n wide (and at least 4): under four steps of walking on average.
    while (outside := values >= np.uint64(n)).any():
        values[outside] = _feistel(values[outside], half_bits, key)
    return values.astype(np.int64)


def checksum(samples: Iterable[int]) -> int:
    """A number that names a set of samples, whatever their order: the checksums of its parts add up to its own.

    The sum of 32 mixed bits per sample, so that a million of them still fit a double exactly.
    """
    return sum(_mix(sample) >> 32 for sample in samples)


def epoch_key(seed: int, epoch: int) -> int:
    """The key of one epoch's permutation; any two (seed, epoch) pairs get unrelated ones."""
    return _mix(_mix(seed & _MASK64) + epoch)


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """The one stream of samples that a run sees, from its first step to its last."""

    seed: int
    """Of the run."""
    sizes: tuple[int, ...]
    """Samples of each source; numbers of samples go through the sources one after another."""
    mixture: Mixture | None = None
    """How sources take turns; None shuffles all of their samples together."""

    def __post_init__(self) -> None:
        if self.mixture is not None:
            assert len(self.mixture.parts) == len(self.sizes), (self.mixture, self.sizes)
            assert min(self.sizes) > 0, self.sizes

    @property
    def epoch_size(self) -> int:
        """Samples of one pass: with counts their sum, else as many as the sources have together.

        By weights a source may come more than once in that pass, and another not to its end.
        """
        counted = None if self.mixture is None else self.mixture.epoch_size
        return sum(self.sizes) if counted is None else counted

    def samples_of_step(self, step: int, global_batch_size: int) -> Int64Array:
        """The samples of optimiser step `step` (from 0), in order: int64 [global_batch_size].

        Without a mixture, sample g = step * global_batch_size + i of the stream is `permutation_{seed, epoch}(g % n)`
        of epoch g // n: none comes twice in an epoch, and a batch may straddle two. With one, each source has such a
        stream of its own, and the mixture says whose next sample comes.
        """
        assert step >= 0, step
        assert min(global_batch_size, sum(self.sizes)) > 0, (global_batch_size, self.sizes)
        stream = step * global_batch_size + np.arange(global_batch_size, dtype=np.int64)
        if self.mixture is None:
            return _shuffled(stream, sum(self.sizes), self.seed)
        sources, turns = self.mixture.turns(stream)
        result = np.empty_like(stream)
        for source in np.unique(sources).tolist():
            mine = sources == source
            # A seed of its own: two sources of one size would come in one order.
            seed = (self.seed + (source + 1) * _GOLDEN) & _MASK64
            result[mine] = sum(self.sizes[:source]) + _shuffled(turns[mine], self.sizes[source], seed)
        return result


def _shuffled(places: Int64Array, n: int, seed: int) -> Int64Array:
    """Elements `places` of an endless stream of range(n), each epoch in an order of its own."""
    epochs, inside = np.divmod(places, n)
    result = np.empty_like(places)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        result[here] = permute(inside[here], n, epoch_key(seed, epoch))
    return result
