"""Writing the data files of a prepared folder.

Owns the writing side of the layout in `tokens`. Must not know parts, or which rows stay.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np

from launcher.data.feed.packing import WINDOW_ROWS, pack
from launcher.data.make.parts import create_private
from launcher.data.tokens import DTYPES, REJECTED_FILE, SHARDED, TARGETS, AnyArray, FileMark, data_file

SHARD_TOKENS = 1 << 28
"""Tokens of a shard, at most: 1 GiB of ids."""
_COPY_BYTES = 1 << 20


class _DataFile:
    """A file that is hashed as it is written, and synced when it is closed."""

    def __init__(self, path: Path) -> None:
        self._file = create_private(path)
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def flush(self) -> None:
        self._file.flush()

    def sync(self) -> FileMark:
        self._file.flush()
        os.fsync(self._file.fileno())
        return FileMark(bytes=self._bytes, sha256=self._digest.hexdigest())

    def close(self) -> None:
        self._file.close()


class Assembly:
    """The data files of `folder` while they grow, in the order of the rows."""

    def __init__(self, folder: Path, shard_tokens: int = SHARD_TOKENS) -> None:
        self._folder, self._shard_tokens = folder, shard_tokens
        names = [data_file(name) for name in DTYPES if name not in SHARDED]
        self._files = {name: _DataFile(folder / name) for name in (*names, REJECTED_FILE)}
        self._marks: dict[str, FileMark] = {}
        self._shard, self._in_shard, self._next_offset = -1, 0, 0
        for name in ("offsets", "pack_offsets"):
            self._files[data_file(name)].write(np.int64(0).tobytes())

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()

    def add(self, tokens: AnyArray, trained: AnyArray, lengths: AnyArray, counts: AnyArray) -> None:
        """Append rows: their tokens and masks end to end, and per row how many of each."""
        ends = np.cumsum(lengths, dtype=np.int64)
        self._files[data_file("offsets")].write((self._next_offset + ends).tobytes())
        self._files[data_file("trained_counts")].write(counts.astype(np.int32).tobytes())
        row, start = 0, 0
        while row < len(ends):
            room = self._shard_tokens - self._in_shard
            fitting = int(np.searchsorted(ends, start + room, side="right"))
            if fitting == row or self._shard < 0:
                self._next_shard()
                fitting = max(int(np.searchsorted(ends, start + self._shard_tokens, side="right")), row + 1)
            stop = int(ends[fitting - 1])
            for name, values in (("tokens", tokens), ("trained", trained)):
                self._files[data_file(name, self._shard)].write(np.ascontiguousarray(values[start:stop]).tobytes())
            self._in_shard += stop - start
            row, start = fitting, stop
        self._next_offset += start

    def add_targets(self, targets: AnyArray) -> None:
        """Append what examples are labelled with."""
        if TARGETS not in self._files:
            self._files[TARGETS] = _DataFile(self._folder / TARGETS)
        self._files[TARGETS].write(np.ascontiguousarray(targets, dtype=np.float32).tobytes())

    def add_file(self, name: str, content: bytes) -> None:
        """A further file, whole."""
        self._files[name] = _DataFile(self._folder / name)
        self._files[name].write(content)

    def add_rejected(self, path: Path) -> None:
        """Append lines to the file of rejected rows."""
        for block in _blocks(path):
            self._files[REJECTED_FILE].write(block)

    def pack(self, rows: int, seq_len: int, rows_per_example: int = 1) -> int:
        """Pack the last `rows` rows among themselves, which are those of one source; how many packs that makes.

        The rows of an example stay together, in sequences of `seq_len` tokens for each of them.
        """
        self._files[data_file("offsets")].flush()
        each = rows_per_example
        ends = np.memmap(self._folder / data_file("offsets"), dtype=np.int64, mode="r")[::each]
        made = 0
        for start in range(len(ends) - 1 - rows // each, len(ends) - 1, WINDOW_ROWS):
            window = ends[start : min(start + WINDOW_ROWS + 1, len(ends))]
            members, offsets = pack(np.diff(window), each * seq_len)
            its_rows = (members + start)[:, None] * each + np.arange(each)
            self._files[data_file("pack_rows")].write(its_rows.reshape(-1).astype(np.int64).tobytes())
            self._files[data_file("pack_offsets")].write(((offsets[1:] + start) * each).tobytes())
            made += len(offsets) - 1
        return made

    def sync(self) -> dict[str, FileMark]:
        """Make everything durable; each file's size and hash."""
        self._marks |= {name: file.sync() for name, file in self._files.items()}
        return {name: self._marks[name] for name in sorted(self._marks)}

    def _next_shard(self) -> None:
        for name in SHARDED:
            if self._shard >= 0:
                done = self._files.pop(data_file(name, self._shard))
                self._marks[data_file(name, self._shard)] = done.sync()
                done.close()
            new = data_file(name, self._shard + 1)
            self._files[new] = _DataFile(self._folder / new)
        self._shard += 1
        self._in_shard = 0


def _blocks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while block := file.read(_COPY_BYTES):
            yield block
