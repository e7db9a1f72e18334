"""Joining part files into the data files of a prepared folder.

Owns the writing side of the layout in `tokens`. Must not know how parts are made.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import numpy as np

from launcher.data.chunks import PART_SUFFIXES, create_private, part_file
from launcher.data.packing import WINDOW_ROWS, pack
from launcher.data.tokens import DTYPES, FileMark

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
    """The data files of `folder` while they grow, part by part in the order of the rows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = {name: _DataFile(folder / name) for name in DTYPES}
        self._next_offset = 0
        for name in ("offsets.bin", "pack_offsets.bin"):
            self._files[name].write(np.int64(0).tobytes())

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()

    def add(self, number: int) -> None:
        """Append chunk `number`'s part and delete its files."""
        tokens, trained, lengths, counts = (part_file(self._folder, number, suffix) for suffix in PART_SUFFIXES)
        for path, name in ((tokens, "tokens.bin"), (trained, "trained.bin"), (counts, "trained_counts.bin")):
            for block in _blocks(path):
                self._files[name].write(block)
        offsets = self._next_offset + np.cumsum(np.fromfile(lengths, dtype=np.int32), dtype=np.int64)
        if len(offsets):
            self._next_offset = int(offsets[-1])
        self._files["offsets.bin"].write(offsets.tobytes())
        for path in (tokens, trained, lengths, counts):
            path.unlink()

    def pack(self, rows: int, seq_len: int) -> int:
        """Pack the last `rows` rows among themselves, which are those of one source; how many packs that makes."""
        self._files["offsets.bin"].flush()
        ends = np.memmap(self._folder / "offsets.bin", dtype=np.int64, mode="r")
        made = 0
        for start in range(len(ends) - 1 - rows, len(ends) - 1, WINDOW_ROWS):
            window = ends[start : min(start + WINDOW_ROWS + 1, len(ends))]
            members, offsets = pack(np.diff(window), seq_len)
            self._files["pack_rows.bin"].write((members + start).tobytes())
            self._files["pack_offsets.bin"].write((offsets[1:] + start).tobytes())
            made += len(offsets) - 1
        return made

    def sync(self) -> dict[str, FileMark]:
        """Make everything durable; each file's size and hash."""
        return {name: file.sync() for name, file in self._files.items()}


def _blocks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while block := file.read(_COPY_BYTES):
            yield block
