"""A prepared data set on disk: its files' names and types, and reading rows from them.

Owns the layout of the folder that `prepare` publishes. Must not know how tokens came to be, nor torch.
"""

from __future__ import annotations

import bisect
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from launcher.data.key import META_FILE as META_FILE
from launcher.decode import decode
from launcher.errors import Problem, UserError

REJECTED_FILE = "rejected.jsonl"
"""Rows that are not trained on, in order: {source, where (FILE:LINE), step, reason, row}."""
DTYPES: dict[str, type[np.generic]] = {
    "tokens": np.uint32,  # token ids, row after row
    "trained": np.uint8,  # per token: 1 where it carries loss
    "offsets": np.int64,  # rows + 1 positions in tokens
    "trained_counts": np.int32,  # per row: how many tokens carry loss
    "pack_rows": np.int64,  # the rows, pack after pack
    "pack_offsets": np.int64,  # packs + 1 positions in pack_rows
}
"""Each column and its little-endian element type."""
TARGETS = "targets.bin"
"""Per example: float32 [`Meta.target_width`]; absent where that is 0."""
SHARDED = ("tokens", "trained")
"""Columns that are cut into files of equal rows, none of them in two."""


def data_file(column: str, shard: int | None = None) -> str:
    """The name of a column's file; of its shard, for those in `SHARDED`."""
    return f"{column}.bin" if shard is None else f"{column}-{shard:05d}.bin"


AnyArray: TypeAlias = npt.NDArray[Any]
Int64Array: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileMark:
    """What a data file must look like."""

    bytes: int
    """Size."""
    sha256: str
    """Hash of the content, in hex."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceMeta:
    """Where one source's rows lie; sources follow each other in rows and in packs, and no pack mixes two."""

    name: str
    """As the spec calls it."""
    rows: int
    """Rows stored of it."""
    packs: int
    """Sequences that they fill when packed."""
    tokens: int
    """Their tokens."""
    rows_in: int = 0
    """Rows read from it."""
    trained_tokens: int = 0
    """Its tokens that carry loss."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Rows that are not trained on, by step."""
    formats: dict[str, int] = field(default_factory=dict)
    """Readable rows, by format."""
    tags: dict[str, str] = field(default_factory=dict)
    """What the spec says of all its rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Meta:
    """What `meta.json` tells of a prepared data set."""

    key: str
    """The hash that names the folder."""
    data_version: int
    """Which way of preparing made it."""
    rows_in: int
    """Rows read from the sources; each of them is trained on or rejected."""
    rows: int
    """Rows stored; where some were split, more than those that were not rejected."""
    truncated: int
    """Rows cut to `seq_len`."""
    split: int
    """Rows split into several."""
    untrained_pieces: int
    """Parts of split rows that carry no loss, left out."""
    tokens: int
    """Tokens over all rows stored."""
    trained_tokens: int
    """Those of them that carry loss."""
    longest: int
    """Tokens of the longest row stored."""
    sources: tuple[SourceMeta, ...]
    """The same by source."""
    files: dict[str, FileMark]
    """Each file's size and hash."""
    spec: dict[str, Any]
    """The `DataSpec`, as JSON; its names, tags, weights and paths are those of whoever prepared it first."""
    versions: dict[str, str]
    """Libraries that made the tokens."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Rows that are not trained on, by step; they are in `rejected.jsonl`."""
    rows_per_example: int = 1
    """Rows stored one after another for each that was read: 2 for pairs."""
    target_width: int = 0
    """Numbers in `targets.bin` for each example."""
    lengths: dict[str, int] = field(default_factory=dict)
    """Rows stored by length: the least tokens of a bin (1, 2, 3, 4, 6, 8, 12, 16 …) to the rows in it."""
    turns: dict[str, int] = field(default_factory=dict)
    """Rows that were not rejected by turns: the least turns of a bin to the rows in it."""

    @staticmethod
    def read(folder: Path) -> Meta:
        """Read `folder`/meta.json; UserError where `folder` is no prepared data set."""
        try:
            document = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            remedy = "prepare the data again; this folder is incomplete or something else"
            raise UserError(Problem(where=str(folder), message=f"has no {META_FILE}", remedy=remedy)) from None
        return decode(Meta, document)


class TokenStore:
    """Rows of a prepared folder, read through the page cache; cheap to open, however large.

    Raises UserError where a file's size is not the one recorded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = Meta.read(folder)
        wrong = [name for name, mark in self.meta.files.items() if not _has_size(folder / name, mark.bytes)]
        if wrong:
            raise UserError(*(_damaged(folder, name) for name in wrong))
        self._offsets, self._counts, self._pack_rows, self._pack_offsets = (
            _mapped(folder, name) for name in DTYPES if name not in SHARDED
        )
        self._targets: AnyArray | None = None
        if self.meta.target_width:
            flat = np.memmap(folder / TARGETS, dtype=np.float32, mode="r")
            self._targets = flat.reshape(-1, self.meta.target_width)
        shards = itertools.takewhile(self.meta.files.__contains__, map(_tokens_file, itertools.count()))
        self._tokens = [np.memmap(folder / name, dtype=DTYPES["tokens"], mode="r") for name in shards]
        self._trained = [_mapped(folder, "trained", shard) for shard in range(len(self._tokens))]
        self._starts = list(itertools.accumulate((len(tokens) for tokens in self._tokens), initial=0))

    def __len__(self) -> int:
        return self.meta.rows

    def row(self, index: int) -> tuple[AnyArray, AnyArray]:
        """Token ids (uint32) and loss mask (bool) of one row, each [length]; IndexError outside range(len)."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        start, stop = int(self._offsets[index]), int(self._offsets[index + 1])
        shard = bisect.bisect_right(self._starts, start) - 1
        cut = slice(start - self._starts[shard], stop - self._starts[shard])
        return np.asarray(self._tokens[shard][cut]), np.asarray(self._trained[shard][cut]).view(np.bool_)

    def trained_counts(self, indices: Int64Array) -> Int64Array:
        """How many tokens of each of `indices` carry loss, as int64; position 0, which nothing predicts, never does."""
        return np.asarray(self._counts[indices], dtype=np.int64)

    def lengths(self, indices: Int64Array) -> Int64Array:
        """Tokens of each of `indices`, as int64."""
        return np.asarray(self._offsets[indices + 1] - self._offsets[indices], dtype=np.int64)

    def targets(self, examples: Int64Array) -> AnyArray:
        """What each of `examples` is labelled with, float32 [examples, width]; width 0 where there are no labels."""
        width = self.meta.target_width
        if self._targets is None:
            return np.zeros((len(examples), width), dtype=np.float32)
        return np.asarray(self._targets[examples])

    @property
    def packs(self) -> int:
        """Sequences that all rows fill when packed."""
        return len(self._pack_offsets) - 1

    def pack(self, index: int) -> Int64Array:
        """The rows of one pack, ascending; IndexError outside range(packs)."""
        if not 0 <= index < self.packs:
            raise IndexError(f"pack {index} of {self.packs}")
        return np.asarray(self._pack_rows[self._pack_offsets[index] : self._pack_offsets[index + 1]])

    def rows_of_packs(self, indices: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The rows of each of `indices`, pack after pack, and how many each has; both int64."""
        starts = np.asarray(self._pack_offsets[indices])
        counts = np.asarray(self._pack_offsets[indices + 1]) - starts
        # Places in pack_rows.bin: each pack's start, repeated, plus 0, 1, 2, … within the pack.
        places = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return np.asarray(self._pack_rows[places]), counts


def _tokens_file(shard: int) -> str:
    return data_file("tokens", shard)


def _mapped(folder: Path, column: str, shard: int | None = None) -> AnyArray:
    return np.memmap(folder / data_file(column, shard), dtype=DTYPES[column], mode="r")


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _damaged(folder: Path, name: str) -> Problem:
    remedy = f"delete {folder} and prepare the data again"
    return Problem(where=str(folder / name), message="is not as it was prepared", remedy=remedy)
