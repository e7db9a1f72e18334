"""Words that training rows have in common with held-out ones.

Owns the table of held-out runs of words and looking into it. Must not know where rows come from.

A run of `data.clean.ngram` words (13 for GPT-3: Brown et al., "Language Models are Few-Shot Learners", 2020, appendix
C) that a training row shares with a held-out row marks it. A held-out row with fewer words counts whole, from five
words on. A run that more than 1 % of the held-out rows have, and more than ten of them, is boilerplate and does not
count: a question all rows begin with says nothing of any of them.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from launcher.data.clean.buckets import Buckets
from launcher.data.clean.words import Runs, spoken, words
from launcher.data.feed.order import Int64Array, UInt64Array
from launcher.data.formats import Conversation

_FEWEST_WORDS = 5
_COMMON_ROWS = 10
_COMMON_SHARE = 0.01
_FILTER_BITS = 24


def write_table(path: Path, held_out: Iterable[Conversation], ngram: int, size_bytes: int, bucket_bytes: int) -> None:
    """Publish at `path` the runs of words of all rows: uint64, the number of lengths, the lengths, and sorted runs.

    `size_bytes` is about how much text there is; memory does not grow with it.
    """
    lengths, rows = {ngram}, 0
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    # A word takes five bytes of text or more, mostly, and eight here.
    with Buckets(folder / "buckets", np.uint64, 2 * size_bytes, bucket_bytes) as buckets:
        for conversation in held_out:
            rows += 1
            said = words(spoken(conversation))
            if len(said) < _FEWEST_WORDS:
                continue
            length = min(ngram, len(said))
            lengths.add(length)
            mine = np.unique(Runs(said).of(length))
            buckets.add(mine, mine)
        most = max(_COMMON_ROWS, int(_COMMON_SHARE * rows))
        with (folder / "table").open("wb") as file:
            file.write(np.array([len(lengths), *sorted(lengths)], dtype=np.uint64).tobytes())
            for records in buckets.read():
                values, counts = np.unique(records, return_counts=True)
                file.write(values[counts <= most].tobytes())
            file.flush()
            os.fsync(file.fileno())
    os.replace(folder / "table", path)
    (folder / "buckets").rmdir()
    folder.rmdir()


class HeldOut:
    """The runs of words of the held-out rows, memory-mapped."""

    def __init__(self, path: Path) -> None:
        table = np.memmap(path, dtype=np.uint64, mode="r")
        self._lengths = [int(length) for length in table[1 : 1 + int(table[0])]]
        self._runs: UInt64Array = table[1 + len(self._lengths) :]
        # Most runs are not held out: one look into 16 MiB says so, where the table may be anything.
        self._maybe = np.zeros(1 << _FILTER_BITS, dtype=np.bool_)
        for start in range(0, len(self._runs), 1 << 20):
            self._maybe[self._runs[start : start + (1 << 20)] >> np.uint64(64 - _FILTER_BITS)] = True

    def common(self, conversations: Sequence[Conversation]) -> list[str | None]:
        """Of each row, words that it has in common with a held-out one; None where there are none.

        All rows are looked at as one text, whose runs across two rows do not count: a call per row would cost more
        than the work.
        """
        told: list[str | None] = [None] * len(conversations)
        if not len(self._runs):
            return told
        each = [words(spoken(conversation)) for conversation in conversations]
        said = list(itertools.chain.from_iterable(each))
        owner = np.repeat(np.arange(len(each)), [len(mine) for mine in each])
        made = Runs(said)
        for length in self._lengths:
            for start in self._found(made.of(length)).tolist():
                row = owner[start]
                if row == owner[start + length - 1] and told[row] is None:
                    told[row] = b" ".join(said[start : start + length]).decode("utf-8", errors="replace")
        return told

    def _found(self, mine: UInt64Array) -> Int64Array:
        """The places in `mine` whose numbers are in the table."""
        likely = np.flatnonzero(self._maybe[mine >> np.uint64(64 - _FILTER_BITS)])
        places = np.minimum(np.searchsorted(self._runs, mine[likely]), len(self._runs) - 1)
        found: Int64Array = likely[self._runs[places] == mine[likely]]
        return found
