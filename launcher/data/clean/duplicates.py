"""Rows that are there already: exactly, or nearly.

Owns the search over all parts, in memory that does not grow with them. Must not know sources, tokens or the cache.

Rows are numbered through, part after part. Records (mark, row) are spread by mark over files of a bounded size; in each
file, sorted, rows with the same mark stand together, and the first of them stays. A nearly equal row goes when its
signature agrees with that of the first row of one of its bands in at least `similarity` of the places; a first row that
goes itself leaves an earlier one like it, so that something of each group stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from launcher.data.clean.buckets import Buckets, runs
from launcher.data.clean.similar import PLACES
from launcher.data.feed.order import Int64Array
from launcher.data.make.parts import DIGEST, column
from launcher.data.tokens import AnyArray

_EXACT = np.dtype([("high", np.uint64), ("low", np.uint64), ("row", np.int64)])
_NEAR = np.dtype([("key", np.uint64), ("row", np.int64)])
_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """Where to look, and where the answer goes."""

    parts: Sequence[Path]
    """Folders of all parts, in order."""
    rows: Sequence[int]
    """Rows of each."""
    folder: Path
    """Private; takes the answer and what is needed on the way."""
    bucket_bytes: int
    """Records sorted at once."""


class Firsts:
    """Per row, the earlier one that it repeats: on disk, 8 bytes a row."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        if not path.exists():
            # Holes cost no disk, and read as zero: no row repeats another.
            with path.open("wb") as file:
                file.truncate(8 * rows)
        self._rows = rows

    def note(self, rows: Int64Array, firsts: Int64Array) -> None:
        """Each of `rows` (no one twice) repeats one of `firsts`; the earliest that was ever noted counts."""
        table = self._open("r+")
        known = table[rows]
        table[rows] = np.where(known == 0, firsts + 1, np.minimum(known, firsts + 1))

    def of(self, start: int, stop: int) -> Int64Array:
        """Per row of [start, stop): the row that it repeats, or -1."""
        return np.array(self._open("r")[start:stop]) - 1

    def _open(self, mode: str) -> AnyArray:
        # Opened for each use, so that pages do not add up in this process's memory.
        if not self._rows:
            return np.zeros(0, dtype=np.int64)
        return np.memmap(self.path, dtype=np.int64, mode=mode)  # type: ignore[call-overload, no-any-return]


def find_exact(search: Search) -> Firsts:
    """Rows with the digest of an earlier one."""
    total = sum(search.rows)
    firsts = Firsts(search.folder / "exact.bin", total)
    with Buckets(search.folder / "exact", _EXACT, _EXACT.itemsize * total, search.bucket_bytes) as buckets:
        for start, folder, low, high in _blocks(search):
            digests = column(folder, "digests", DIGEST)[low:high]
            records = np.empty(high - low, dtype=_EXACT)
            records["high"], records["low"] = digests["high"], digests["low"]
            records["row"] = np.arange(start + low, start + high)
            buckets.add(records["high"], records)
        for records in buckets.read():
            records = records[np.lexsort((records["low"], records["high"]))]
            same, began = runs(records["high"], records["low"])
            firsts.note(records["row"][same], records["row"][began[same]])
    return firsts


def find_near(search: Search, exact: Firsts, bands: int, similarity: float) -> Firsts:
    """Rows whose signature is like that of an earlier one, among those that repeat none exactly."""
    total = sum(search.rows)
    firsts = Firsts(search.folder / "near.bin", total)
    signatures = search.folder / "signatures.bin"
    expected = bands * _NEAR.itemsize * total
    with (
        Buckets(search.folder / "near", _NEAR, expected, search.bucket_bytes) as buckets,
        signatures.open("wb") as file,
    ):
        for start, folder, low, high in _blocks(search):
            file.write(column(folder, "signatures", np.uint16)[low * PLACES : high * PLACES].tobytes())
            keys = column(folder, "keys", np.uint64).reshape(-1, bands)[low:high]
            usable = (exact.of(start + low, start + high) < 0) & (keys[:, 0] != 0)
            records = np.empty(int(usable.sum()) * bands, dtype=_NEAR)
            records["key"] = keys[usable].ravel()
            records["row"] = np.repeat(np.flatnonzero(usable) + start + low, bands)
            buckets.add(records["key"], records)
        file.flush()
        for records in buckets.read():
            _note_near(records, signatures, firsts, similarity)
    signatures.unlink()
    return firsts


def _note_near(records: AnyArray, signatures: Path, firsts: Firsts, similarity: float) -> None:
    """Compare the rows of one bucket with the first of their band."""
    records = records[np.argsort(records["key"], kind="stable")]
    same, began = runs(records["key"])
    pairs = np.unique(np.stack([records["row"][same], records["row"][began[same]]], axis=1), axis=0)
    for start in range(0, len(pairs), _BLOCK_ROWS):
        rows, earlier = pairs[start : start + _BLOCK_ROWS].T
        table = np.memmap(signatures, dtype=np.uint16, mode="r").reshape(-1, PLACES)
        alike = np.mean(table[rows] == table[earlier], axis=1) >= similarity
        # Pairs are sorted: the first of a row is the one with its earliest likeness.
        found, places = np.unique(rows[alike], return_index=True)
        firsts.note(found, earlier[alike][places])


def _blocks(search: Search) -> Iterator[tuple[int, Path, int, int]]:
    """(row at which a part starts, its folder, a range of its rows), part after part."""
    start = 0
    for folder, rows in zip(search.parts, search.rows, strict=True):
        for low in range(0, rows, _BLOCK_ROWS):
            yield start, folder, low, min(low + _BLOCK_ROWS, rows)
        start += rows
