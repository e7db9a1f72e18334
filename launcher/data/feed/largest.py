"""What a teacher thought of every trained token of a set, as far as it is kept: its k largest log-probabilities.

Owns the files: parts of equally many samples, each of them there whole or not at all, whoever writes it. Must not know
the teacher, torch, ranks, or what the numbers are for.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from launcher.data.feed.samples import Samples
from launcher.data.tokens import AnyArray
from launcher.publish import sync_dir

PART_SAMPLES = 128
"""Samples of a part: what a rank loses of its work at most when it is killed. Ten million are 78,125 files."""


def record_type(k: int) -> np.dtype[np.void]:
    """A trained token's record."""
    return np.dtype(
        [
            # Natural logarithm; the last is that of all other tokens together.
            ("logps", "<f4", (k + 1,)),
            ("ids", "<i4", (k,)),
        ]
    )


class LargestStore:
    """The records of one set's samples: those of its trained tokens, in their order."""

    def __init__(self, folder: Path, samples: Samples, k: int) -> None:
        self._folder, self._samples = folder, samples
        self.type = record_type(k)
        """Of a record."""
        self.parts = -(-len(samples) // PART_SAMPLES)
        """How many there are, each of `PART_SAMPLES` samples but the last."""

    def missing(self) -> list[int]:
        """Parts that are not there, after what writers that died left of them is gone; for one process at a time."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sizes = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(".tmp"):
                    Path(entry.path).unlink()
                else:
                    sizes[entry.name] = entry.stat().st_size
        return [part for part in range(self.parts) if sizes.get(_name(part)) != self._size(part)]

    def samples_of(self, part: int) -> range:
        """The samples of a part."""
        first = part * PART_SAMPLES
        return range(first, min(first + PART_SAMPLES, len(self._samples)))

    @contextmanager
    def writing(self, part: int) -> Iterator[Callable[[AnyArray], None]]:
        """Takes a part's records in order. It is there once all of them have come; else nothing is left of it."""
        final = self._folder / _name(part)
        temporary = self._folder / f".{final.name}.{socket.gethostname()}.{os.getpid()}.tmp"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                yield lambda records: _append(file.fileno(), records.tobytes())
                os.fsync(file.fileno())
            if temporary.stat().st_size == self._size(part):
                os.replace(temporary, final)
                sync_dir(self._folder)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, numbers: Sequence[int]) -> AnyArray:
        """The records of these samples, one sample after another; only they are read."""
        found = [self._of_sample(number) for number in numbers]
        return np.concatenate(found) if found else np.empty(0, dtype=self.type)

    def _of_sample(self, number: int) -> AnyArray:
        part = number // PART_SAMPLES
        *before, count = self._counts(range(part * PART_SAMPLES, number + 1)).tolist()
        offset = sum(before) * self.type.itemsize
        records = np.fromfile(self._folder / _name(part), dtype=self.type, count=count, offset=offset)
        assert len(records) == count, f"{self._folder / _name(part)} has been cut off since the run began"
        return records

    def _size(self, part: int) -> int:
        """Bytes of a part."""
        return int(self._counts(self.samples_of(part)).sum()) * self.type.itemsize

    def _counts(self, numbers: range) -> AnyArray:
        return self._samples.trained_counts(np.arange(numbers.start, numbers.stop, dtype=np.int64))


def _name(part: int) -> str:
    return f"part-{part:06d}.bin"


def _append(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
