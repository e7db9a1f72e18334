"""CSV and TSV: a header, and a row of text fields for each record."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from launcher.data.read.kinds import is_tabbed
from launcher.data.read.piece import MOST_ROW_BYTES, Lost, Row, bad, good
from launcher.data.read.streams import UNDECODED, Damaged, characters
from launcher.data.reject import RowError


def csv_rows(path: Path) -> Iterator[Row]:
    """A row for each record after the header, which is not counted; blank lines are left out."""
    # The module's own limit is 128 KiB a field. It also bounds what a quote that is never closed can swallow.
    csv.field_size_limit(MOST_ROW_BYTES)
    delimiter = "\t" if is_tabbed(path) else ","
    number = 1
    try:
        with characters(path) as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = _header(reader)
            while True:
                try:
                    fields = next(reader, None)
                except csv.Error as error:
                    yield bad(number, "", RowError(f"not CSV: {error} (line {reader.line_num} of the file)"))
                    number += 1
                    continue
                if fields is None:
                    return
                if fields:
                    yield _row(number, header, fields, delimiter)
                    number += 1
    except Damaged as error:
        raise Lost(number, str(error)) from None


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next((fields for fields in reader if fields), [])
    except csv.Error as error:
        raise Lost(1, f"the header is not CSV: {error}") from None
    for name in header:
        if UNDECODED.search(name):
            raise Lost(1, "the header is not UTF-8")
        if header.count(name) > 1:
            raise Lost(1, f'the header names the column "{name}" twice')
    return header


def _row(number: int, header: list[str], fields: list[str], delimiter: str) -> Row:
    raw = delimiter.join(fields)
    if not raw.isascii() and UNDECODED.search(raw):
        return bad(number, UNDECODED.sub("\ufffd", raw), RowError("not UTF-8: it holds invalid bytes"))
    if len(fields) != len(header):
        valid = f"{len(header)}, as the header has; a field with a comma or line break in it stands in quotes"
        return bad(number, raw, RowError(f"{len(fields)} fields", valid=valid))
    return good(number, raw, dict(zip(header, fields, strict=True)))
