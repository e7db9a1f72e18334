"""Which rows an optimiser step sees: an exact shuffle in constant memory, a function of (seed, step) alone.

Owns the order of samples. Must not know of ranks, files or torch: a run that resumes, on any number of GPUs, asks for
the same step and gets the same rows.

The shuffle is a balanced Feistel network over the smallest even-width binary domain that holds `n`, with cycle
walking to stay inside it (Black & Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). The round function is
the splitmix64 finaliser (Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

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


def checksum(rows: Iterable[int]) -> int:
    """A number that names a set of rows, whatever their order: the checksums of its parts add up to its own.

    The sum of 32 mixed bits per row, so that a million rows still fit a double exactly.
    """
    return sum(_mix(row) >> 32 for row in rows)


def epoch_key(seed: int, epoch: int) -> int:
    """The key of one epoch's permutation; any two (seed, epoch) pairs get unrelated ones."""
    return _mix(_mix(seed & _MASK64) + epoch)


def rows_of_step(*, seed: int, step: int, global_batch_size: int, rows: int) -> Int64Array:
    """The rows of optimiser step `step` (from 0), in order: int64 [global_batch_size].

    Sample g = step * global_batch_size + i of the run's one stream is row `permutation_{seed, epoch}(g % rows)` of
    epoch g // rows. No row comes twice in an epoch; a batch may straddle two epochs.
    """
    assert step >= 0, step
    assert min(global_batch_size, rows) > 0, (global_batch_size, rows)
    stream = step * global_batch_size + np.arange(global_batch_size, dtype=np.int64)
    epochs, places = np.divmod(stream, rows)
    result = np.empty(global_batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):
        inside = epochs == epoch
        result[inside] = permute(places[inside], rows, epoch_key(seed, int(epoch)))
    return result
