"""What the order counts and a batch is made of: examples as they are, or packs of them.

An example is a row; or two, where a row that is read holds two answers.

Owns that choice. Must not know the order, tensors or ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from launcher.data.tokens import AnyArray, Int64Array, TokenStore


class Samples:
    """The samples of a prepared folder, numbered from 0; those of a source are consecutive, sources in order."""

    def __init__(self, store: TokenStore, *, packed: bool, mismatched: bool = False) -> None:
        self.store = store
        """Where their rows are."""
        self.packed = packed
        """Whether a sample is a pack of examples; else it is one example."""
        self.each = store.meta.rows_per_example
        """Rows of an example."""
        self.mismatched = mismatched
        """Whether batches also hold every row's prompt with another row's answer."""
        self.reference: AnyArray | None = None
        """Per row of the store: the log-probability that the untrained model gives what it trains on, float32; None
        where nobody asked for it."""
        self.mismatched_reference: AnyArray | None = None
        """The same of the row's prompt with another row's answer."""
        self.largest: Callable[[Sequence[int]], AnyArray] | None = None
        """Of some samples: what the teacher thought of their trained tokens (`LargestStore.read`); None where nobody
        asked it beforehand."""

    def __len__(self) -> int:
        return self.store.packs if self.packed else len(self.store) // self.each

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of each source."""
        return tuple(source.packs if self.packed else source.rows // self.each for source in self.store.meta.sources)

    def rows(self, sample: int) -> list[int]:
        """The rows that one sample holds, in order."""
        if not self.packed:
            return list(range(sample * self.each, (sample + 1) * self.each))
        rows: list[int] = self.store.pack(sample).tolist()
        return rows

    def examples(self, samples: Int64Array) -> int:
        """How many examples `samples` hold together."""
        return int(self.rows_of(samples)[1].sum()) // self.each

    def trained_counts(self, samples: Int64Array) -> Int64Array:
        """How many tokens of each of `samples` carry loss, as int64."""
        rows, counts = self.rows_of(samples)
        return _sums(self.store.trained_counts(rows), counts)

    def lengths(self, samples: Int64Array) -> Int64Array:
        """Tokens of each of `samples`, as int64."""
        rows, counts = self.rows_of(samples)
        return _sums(self.store.lengths(rows), counts)

    def rows_of(self, samples: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The rows of each of `samples`, one after another, and how many each has."""
        if self.packed:
            return self.store.rows_of_packs(samples)
        rows = samples[:, None] * self.each + np.arange(self.each)
        return rows.reshape(-1), np.full(len(samples), self.each, dtype=np.int64)


def _sums(values: Int64Array, counts: Int64Array) -> Int64Array:
    """Sums of consecutive groups of `values`; no group is empty."""
    return np.add.reduceat(values, np.cumsum(counts) - counts, dtype=np.int64) if len(counts) else counts
