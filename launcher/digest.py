"""The hash of a file's content, which says whether it is still what it was."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

BLOCK_BYTES = 1 << 20


def unseen(count: int) -> None:
    """The report that tells nobody."""


def file_sha256(path: Path, report: Callable[[int], None] = unseen) -> str:
    """SHA-256, in hex, of the whole file, read in blocks; `report` is told the bytes of each."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            hasher.update(block)
            report(len(block))
    return hasher.hexdigest()
