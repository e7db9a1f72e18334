"""What one piece of a source became, on disk: a folder of plain columns, complete or absent.

Owns the layout of the work folder's parts. Must not know how rows are read or judged. The same piece gives the same
bytes, whoever makes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from launcher.data.clean.fit import Fitted
from launcher.data.feed.order import UInt64Array
from launcher.data.read import Piece
from launcher.data.tokens import AnyArray
from launcher.decode import decode
from launcher.plain import plain
from launcher.publish import publish_json, sync_dir

ROW = np.dtype(
    [
        ("line", np.int64),  # counted from the piece's first
        ("stored", np.int32),  # rows it is stored as: more than one where it was split
        ("turns", np.int32),
        ("cut", np.uint8),  # a `Cut`
        ("suspect", np.uint8),  # 1 where it shares words with a held-out row
    ]
)
STORED = np.dtype([("tokens", np.int32), ("trained", np.int32)])
# The same for one entry at a time, which numpy takes ten times as long for.
_ROW, _STORED = struct.Struct("<qiiBB"), struct.Struct("<ii")
DIGEST = np.dtype([("high", np.uint64), ("low", np.uint64)])
_COLUMNS = (
    "tokens",
    "trained",
    "stored",
    "rows",
    "digests",
    "keys",
    "signatures",
    "targets",
    "slices",
    "refused",
    "suspects",
)
_COUNTS = "part.json"
_BUFFER_BYTES = 1 << 18


@dataclass(kw_only=True, slots=True)
class Counts:
    """What became of a piece's rows, as far as one can say without the others."""

    rows_in: int = 0
    """Rows read."""
    rows: int = 0
    """Rows kept."""
    tokens: int = 0
    """Their tokens."""
    lines: int = 0
    """Lines of the piece, blank ones too."""
    untrained_pieces: int = 0
    """Parts of split rows that carry no loss, left out."""
    formats: dict[str, int] = field(default_factory=dict)
    """Readable rows by format."""
    refused: dict[str, int] = field(default_factory=dict)
    """Rows refused, by step."""


def part_dir(work: Path, number: int, piece: Piece) -> Path:
    """Where the part of the piece of that number lies; another cut of the same sources finds nothing there."""
    return work / f"part-{number:06d}-{piece.start}-{piece.stop}"


def counts_of(folder: Path) -> Counts | None:
    """The counts of a finished part; None where there is none."""
    try:
        return decode(Counts, json.loads((folder / _COUNTS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def column(folder: Path, name: str, dtype: Any) -> AnyArray:
    """One column of a part, memory-mapped."""
    path = folder / name
    return np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype=dtype)


def refusals(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The refused (or suspect) rows of a part, in order: {line, step, reason, row}."""
    with (folder / name).open(encoding="utf-8") as file:
        for text in file:
            yield json.loads(text)


def create_private(path: Path) -> BinaryIO:
    """A new file of mode 0600, open for writing."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", _BUFFER_BYTES)


class PartWriter:
    """A part while it grows, in a private folder beside its place."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self._folder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        self._files = {name: create_private(self._folder / name) for name in _COLUMNS}
        # Looked up once: there are several writes a row.
        self._tokens, self._trained, self._stored, self._rows, self._digests = (
            self._files[name].write for name in ("tokens", "trained", "stored", "rows", "digests")
        )

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()
        # Gone already where it was published.
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, fitted: Fitted, *, line: int, turns: int, suspect: bool, target: AnyArray | None = None) -> None:
        """Append one row, and what it is labelled with (float32 [width])."""
        if target is not None:
            self._files["targets"].write(target.tobytes())
        for row in fitted.rows:
            self._tokens(row.tokens)
            self._trained(row.loss)
            self._stored(_STORED.pack(len(row.loss), row.loss.count(1)))
        self._rows(_ROW.pack(line, len(fitted.rows), turns, fitted.cut, suspect))

    def slice(self, values: Sequence[str | None]) -> None:
        """What the row just added has of the fields whose values are kept."""
        self._files["slices"].write((json.dumps(values) + "\n").encode())

    def mark(self, digest: bytes, keys: UInt64Array | None, signature: AnyArray | None) -> None:
        """By what the row just added is known to other rows."""
        self._digests(digest)
        if keys is not None and signature is not None:
            self._files["keys"].write(keys.tobytes())
            self._files["signatures"].write(signature.tobytes())

    def refuse(self, name: str, entry: dict[str, Any]) -> None:
        """Append {line, step, reason, row} to `refused` or to `suspects`."""
        self._files[name].write((json.dumps(entry, default=str) + "\n").encode())

    def publish(self, counts: Counts) -> None:
        """Make it the part, unless somebody else was first: theirs is the same."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        publish_json(self._folder / _COUNTS, plain(counts))
        sync_dir(self._folder)
        with contextlib.suppress(FileExistsError):
            _rename(self._folder, self._final)


def _rename(folder: Path, final: Path) -> None:
    try:
        os.rename(folder, final)
    except OSError:
        # A folder that is not empty answers ENOTEMPTY on one file system and EEXIST on another.
        if (final / _COUNTS).is_file():
            raise FileExistsError(str(final)) from None
        raise
