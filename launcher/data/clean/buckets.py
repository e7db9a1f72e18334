"""Sorting more records than memory holds: spread by key over files that do fit, one after another.

Owns the files while they exist. Must not know what the records mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from launcher.data.feed.order import UInt64Array
from launcher.data.tokens import AnyArray

BUCKET_BYTES = 64 << 20
"""Records that are sorted at once; sorting takes about four times as much."""
_MOST_FILES = 512
_SHARE_BITS = 32


class Buckets:
    """Files in `folder`, so many that `expected_bytes` of records make about `bucket_bytes` in each.

    Bucket i holds smaller keys than bucket i + 1; within a bucket, records stay in the order of their coming.
    """

    def __init__(self, folder: Path, dtype: AnyDtype, expected_bytes: int, bucket_bytes: int) -> None:
        self._dtype = np.dtype(dtype)
        count = min(_MOST_FILES, 1 + expected_bytes // bucket_bytes)
        folder.mkdir(mode=0o700)
        self._paths = [folder / f"{number:04d}" for number in range(count)]
        self._files = [path.open("wb") for path in self._paths]

    def __enter__(self) -> Buckets:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files:
            file.close()

    def add(self, keys: UInt64Array, records: AnyArray) -> None:
        """Put each record where its key, spread evenly over 64 bits, belongs."""
        places = ((keys >> np.uint64(_SHARE_BITS)) * np.uint64(len(self._files))) >> np.uint64(_SHARE_BITS)
        order = np.argsort(places, kind="stable")
        ends = np.cumsum(np.bincount(places.astype(np.int64), minlength=len(self._files)))
        for file, mine in zip(self._files, np.split(records[order], ends[:-1]), strict=True):
            file.write(mine.tobytes())

    def read(self) -> Iterator[AnyArray]:
        """The records of each bucket, which is deleted then."""
        for path, file in zip(self._paths, self._files, strict=True):
            file.close()
            records = np.fromfile(path, dtype=self._dtype)
            path.unlink()
            yield records


AnyDtype = np.dtype[np.void] | type[np.generic] | list[tuple[str, type[np.generic]]]


def runs(*columns: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Of sorted `columns`: (whether each entry equals the one before it, the index at which its run began)."""
    same = np.zeros(len(columns[0]), dtype=np.bool_)
    if len(same):
        same[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    return same, np.maximum.accumulate(np.where(same, 0, np.arange(len(same))))
