"""The rows of a piece, whatever kind of file it is a piece of, and where a row is in a person's words."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from launcher.data.read.columns import arrow_rows, parquet_rows
from launcher.data.read.csv_rows import csv_rows
from launcher.data.read.json_array import array_rows
from launcher.data.read.lines import json_rows, line_numbers
from launcher.data.read.piece import BY_OFFSET, Kind, Lost, LostRows, Piece, Row, bad
from launcher.data.read.text import text_rows
from launcher.data.reject import RowError
from launcher.data.source import Source, Unit
from launcher.errors import Problem

_EXCERPT_CHARS = 80


def read(piece: Piece, source: Source) -> Iterator[Row]:
    """The piece's rows in the file's order, holding one row or a few megabytes of columns at a time.

    A row that cannot be read comes with its error. `LostRows`, always the last, says that the file itself ends early.
    """
    rows = _rows(Path(piece.path), piece.kind, source.unit, piece.start, piece.stop)
    try:
        yield from itertools.islice(rows, piece.most)
    except Lost as lost:
        remedy = "copy or write the file again"
        yield bad(lost.place, "", LostRows(f"{lost.reason}; nothing after it can be read", remedy=remedy))


def _rows(path: Path, kind: Kind, unit: Unit, start: int, stop: int) -> Iterator[Row]:
    if kind in BY_OFFSET:
        return json_rows(path, start, stop) if kind is Kind.lines else text_rows(path, unit, start, stop)
    if kind is Kind.parquet:
        return parquet_rows(path, start, stop)
    if kind is Kind.arrow:
        return arrow_rows(path, start, stop)
    return csv_rows(path) if kind is Kind.csv else array_rows(path)


def where(piece_path: str, kind: Kind, place: int) -> str:
    """FILE:LINE, or "FILE row N" where lines mean nothing; reads the file up to there to count its lines."""
    return next(where_all(piece_path, kind, [place]))


def where_all(piece_path: str, kind: Kind, places: Iterable[int]) -> Iterator[str]:
    """`where` of ascending places of one file, which is read once for all of them."""
    if kind in BY_OFFSET:
        return (f"{piece_path}:{number}" for number in line_numbers(Path(piece_path), places))
    return (f"{piece_path} row {place}" for place in places)


def row_problem(piece_path: str, kind: Kind, row: Row, error: RowError) -> Problem:
    """`error` of the row in a person's words, with its place and beginning."""
    begins = f"; the row begins: {_excerpt(row.raw)}" if row.raw else ""
    return Problem(
        where=where(piece_path, kind, row.place),
        message=f"{error.reason}{begins}",
        valid=error.valid,
        remedy=error.remedy or "mend or delete this row, or leave such rows out with data.clean.broken=drop",
    )


def _excerpt(raw: str) -> str:
    """The row's first characters, printable."""
    text = raw[: 4 * _EXCERPT_CHARS].strip()
    printable = "".join(char if char.isprintable() else "�" for char in text[:_EXCERPT_CHARS])
    return printable + ("…" if len(raw.strip()) > _EXCERPT_CHARS else "")
