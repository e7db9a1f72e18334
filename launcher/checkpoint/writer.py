"""One file of a checkpoint: written, hashed on the way, synced. Knows no save and no other rank."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import torch

from launcher.checkpoint.manifest import Shard

CHUNK_BYTES = 8 << 20
"""Hashed and written in turn: a chunk is still in the cache when it is written."""
LARGE_BYTES = 1024
"""Writes below this are the headers of torch's zip file."""


def write_file(state: Any, path: Path, *, rank: int, midway: Callable[[], object]) -> Shard:
    """torch.save to `path`, synced; calls `midway` once, within the bytes.

    Raises OSError where the file system took no more, and whatever torch has against the state.
    """
    file = _HashingFile(path, midway)
    try:
        torch.save(state, cast("IO[bytes]", file))
    except RuntimeError as error:
        # torch's zip writer complains of its own position once a write has failed.
        raise file.error or error from error
    finally:
        file.close()
    # Relative to the checkpoint's folder, which DeepSpeed names after the tag.
    return Shard(name=path.name, size=file.size, sha256=file.hasher.hexdigest(), rank=rank)


class _HashingFile:
    """A file that hashes what passes through it. Sequential: torch's zip writer only appends."""

    def __init__(self, path: Path, midway: Callable[[], object]) -> None:
        self._file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0)  # noqa: SIM115 - held
        self._midway: Callable[[], object] | None = midway
        self.hasher = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            if self._midway is not None and len(view) >= LARGE_BYTES:
                self._write(view[: len(view) // 2])
                midway, self._midway = self._midway, None
                midway()
                self._write(view[len(view) // 2 :])
            else:
                self._write(view)
        except OSError as error:
            self.error = self.error or error
            raise
        return len(view)

    def _write(self, view: memoryview) -> None:
        for start in range(0, len(view), CHUNK_BYTES):
            chunk = view[start : start + CHUNK_BYTES]
            self.hasher.update(chunk)
            while chunk:
                chunk = chunk[self._file.write(chunk) :]
        self.size += len(view)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        try:
            # After a failed write there is nothing whose being on disk would matter.
            if self.error is None:
                os.fsync(self._file.fileno())
        finally:
            self._file.close()
