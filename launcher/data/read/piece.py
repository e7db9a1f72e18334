"""What one worker reads alone, and what comes of it. Words only: no file is opened here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from launcher.data.reject import RowError

MOST_ROW_BYTES = 256 << 20
"""A longer row is broken: most likely a file without line breaks or a quote that is never closed."""
_MOST_RAW_CHARS = 1 << 20


class Kind(Enum):
    """What a file holds, whether it is compressed or not."""

    lines = "lines"
    """One JSON object per line."""
    json = "json"
    """One JSON array of objects, or a single object."""
    csv = "csv"
    """A header and rows of fields, apart by commas, or by tabs where the file's name says so."""
    text = "text"
    """Plain text."""
    parquet = "parquet"
    arrow = "arrow"
    """Arrow IPC, as a file or, as `datasets` writes it, as a stream."""


BY_OFFSET = (Kind.lines, Kind.text)
"""Kinds whose places are byte offsets: a worker in the middle of a file cannot know how many rows come before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A share of a file that one worker reads alone."""

    source: int
    """Index of the source in the spec."""
    path: str
    """The file."""
    kind: Kind
    """What it holds."""
    start: int
    """Its first byte, row group or record batch; 0 where the file cannot be cut …"""
    stop: int
    """… and the first that is not its own; the file's size where it cannot be cut."""
    most: int | None
    """Read at most so many rows."""
    size_bytes: int
    """About how much there is to read; for progress."""


@dataclass(kw_only=True, slots=True)
class Row:
    """One row, or why there is none."""

    place: int
    """Byte offset in the unpacked file for kinds `BY_OFFSET`; else the row's number in the file, from 1."""
    raw: str
    """The row as text, for whoever wants to see it; at most a million characters of it."""
    value: dict[str, Any] | None
    """What it holds."""
    error: RowError | None
    """Why it holds nothing."""


class LostRows(RowError):
    """What follows in the piece cannot be read either, and nobody knows how much that is."""


class Lost(Exception):
    """A reader's end before the end of the file."""

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason


def good(place: int, raw: str, value: dict[str, Any]) -> Row:
    """A row that could be read."""
    return Row(place=place, raw=raw[:_MOST_RAW_CHARS], value=value, error=None)


def bad(place: int, raw: str, error: RowError) -> Row:
    """A row that could not."""
    return Row(place=place, raw=raw[:_MOST_RAW_CHARS], value=None, error=error)


def shown(data: bytes) -> str:
    """Bytes of a row as text, whatever they are."""
    return data[: 4 * _MOST_RAW_CHARS].decode("utf-8", errors="replace").rstrip("\r\n")
