"""Counting what goes into a prepared data set, for `meta.json`.

Owns sums and histograms. Must not know where rows come from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from launcher.data.clean.fit import Cut
from launcher.data.make.parts import Counts
from launcher.data.source import Source
from launcher.data.tokens import AnyArray, SourceMeta


def bins(values: AnyArray) -> Counter[int]:
    """How many of `values` fall into each bin, named by its least value: 1, 2, 3, 4, 6, 8, 12, 16, 24 …"""
    edges = [1, *(edge for power in range(1, 40) for edge in (1 << power, 3 << (power - 1)))]
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=1)
    return Counter({edges[number - 1]: int(count) for number, count in enumerate(counts) if count and number})


def by_name(counts: Counter[int]) -> dict[str, int]:
    """A histogram as JSON holds it, lowest bin first."""
    return {str(edge): counts[edge] for edge in sorted(counts)}


@dataclass(kw_only=True, slots=True)
class Tally:
    """One source's counts while it is put together."""

    source: Source
    """Whose they are."""
    rows_in: int = 0
    """Rows read."""
    rows: int = 0
    """Rows stored."""
    tokens: int = 0
    """Their tokens."""
    trained_tokens: int = 0
    """Those that carry loss."""
    longest: int = 0
    """Tokens of the longest row."""
    untrained_pieces: int = 0
    """Parts of split rows that were left out."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Rows not trained on, by step."""
    formats: Counter[str] = field(default_factory=Counter)
    """Readable rows, by format."""
    lengths: Counter[int] = field(default_factory=Counter)
    """Histogram of tokens per row."""
    turns: Counter[int] = field(default_factory=Counter)
    """Histogram of turns per row."""
    cuts: Counter[int] = field(default_factory=Counter)
    """Rows kept, by `Cut`."""

    def add_part(self, counts: Counts) -> None:
        """What a part says of its rows."""
        self.rows_in += counts.rows_in
        self.untrained_pieces += counts.untrained_pieces
        self.rejected.update(counts.refused)
        self.formats.update(counts.formats)

    def add_rows(self, rows: AnyArray, stored: AnyArray) -> None:
        """Rows that stay, and how they are stored (`parts.ROW`, `parts.STORED`)."""
        if not len(rows):
            return
        self.rows += len(stored)
        self.tokens += int(stored["tokens"].sum())
        self.trained_tokens += int(stored["trained"].sum())
        self.longest = max(self.longest, int(stored["tokens"].max()))
        self.lengths += bins(stored["tokens"])
        self.turns += bins(rows["turns"])
        self.cuts.update({cut.value: int((rows["cut"] == cut.value).sum()) for cut in Cut})

    def meta(self, packs: int) -> SourceMeta:
        """The source's entry, now that its rows fill `packs` sequences."""
        return SourceMeta(
            name=self.source.name,
            rows=self.rows,
            packs=packs,
            tokens=self.tokens,
            rows_in=self.rows_in,
            trained_tokens=self.trained_tokens,
            rejected={step: count for step, count in self.rejected.items() if count},
            formats=dict(self.formats),
            tags=dict(self.source.tags),
        )
