"""JSON lines as preparing reads them: faults that travel between processes, and errors that name the line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from launcher.data.read import Kind, Row, row_problem
from launcher.data.read.lines import lines as read_lines
from launcher.data.read.lines import parse_object as parse_line
from launcher.data.reject import RowError
from launcher.errors import Problem

__all__ = ["Fault", "end_of_rows", "line_problem", "parse_line", "read_lines"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A line that cannot be used."""

    offset: int
    """Where the line starts in the file, in bytes."""
    excerpt: str
    """Its beginning."""
    reason: str
    """What is wrong."""
    valid: str
    """What would be valid."""
    remedy: str
    """What to do; empty for the usual."""

    @staticmethod
    def of(error: RowError, offset: int, line: bytes) -> Fault:
        """`error` with its place."""
        shown = line[:400].decode("utf-8", errors="replace")
        return Fault(offset=offset, excerpt=shown, reason=error.reason, valid=error.valid, remedy=error.remedy)


def line_problem(path: Path, fault: Fault) -> Problem:
    """`fault` of `path` in a person's words, with the line's true number."""
    error = RowError(fault.reason, valid=fault.valid, remedy=fault.remedy)
    row = Row(place=fault.offset, raw=fault.excerpt, value=None, error=error)
    return row_problem(str(path), Kind.lines, row, error)


def end_of_rows(path: Path, limit: int) -> int:
    """The end of the byte range that holds the first `limit` rows (the file's size when there are fewer)."""
    for count, (offset, _) in enumerate(read_lines(path)):
        if count == limit:
            return offset
    return path.stat().st_size
