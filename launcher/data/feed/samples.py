"""What the order counts and a batch is made of: rows as they are, or packs of them.

Owns that choice. Must not know the order, tensors or ranks.
"""

from __future__ import annotations

import numpy as np

from launcher.data.tokens import Int64Array, TokenStore


class Samples:
    """The samples of a prepared folder, numbered from 0; those of a source are consecutive, sources in order."""

    def __init__(self, store: TokenStore, *, packed: bool) -> None:
        self.store = store
        """Where their rows are."""
        self.packed = packed
        """Whether a sample is a pack of rows; else it is one row."""

    def __len__(self) -> int:
        return self.store.packs if self.packed else len(self.store)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of each source."""
        return tuple(source.packs if self.packed else source.rows for source in self.store.meta.sources)

    def rows(self, sample: int) -> list[int]:
        """The rows that one sample holds, in order."""
        rows: list[int] = self.store.pack(sample).tolist() if self.packed else [sample]
        return rows

    def trained_counts(self, samples: Int64Array) -> Int64Array:
        """How many tokens of each of `samples` carry loss, as int64."""
        if not self.packed:
            return self.store.trained_counts(samples)
        rows, counts = self.store.rows_of_packs(samples)
        return _sums(self.store.trained_counts(rows), counts)

    def lengths(self, samples: Int64Array) -> Int64Array:
        """Tokens of each of `samples`, as int64."""
        if not self.packed:
            return self.store.lengths(samples)
        rows, counts = self.store.rows_of_packs(samples)
        return _sums(self.store.lengths(rows), counts)


def _sums(values: Int64Array, counts: Int64Array) -> Int64Array:
    """Sums of consecutive groups of `values`; no group is empty."""
    return np.add.reduceat(values, np.cumsum(counts) - counts, dtype=np.int64) if len(counts) else counts
