"""Lines of bytes with their places, and JSON objects out of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from launcher.data.read.piece import MOST_ROW_BYTES, Lost, Row, bad, good, shown
from launcher.data.read.streams import BLOCK_BYTES, Damaged, unpacked
from launcher.data.reject import RowError

BOM = b"\xef\xbb\xbf"
_SCAN = json.JSONDecoder().raw_decode
_JSON_BLANKS = " \t\n\r"


def lines(path: Path, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The lines whose first byte lies in [start, stop), with that byte's offset; blank lines are left out.

    Neighbouring ranges share no line and miss none. A line of more than `MOST_ROW_BYTES` is cut there, to one byte
    more than that. A compressed file is read from 0 to its end, whatever `stop` says.
    """
    with unpacked(path) as file:
        offset = 0
        if start:
            file.seek(start - 1)
            _skip_line(file)
            offset = file.tell()
        stop = stop if file.seekable() else None
        yield from ((place, line) for place, line in lines_of(file, offset, stop) if not line.isspace())


def lines_of(file: BinaryIO, offset: int, stop: int | None) -> Iterator[tuple[int, bytes]]:
    """The lines of an open file from here on, blank ones too; `offset` is where it stands. `Lost` where it breaks."""
    try:
        while (stop is None or offset < stop) and (line := file.readline(MOST_ROW_BYTES + 1)):
            yield offset, line.removeprefix(BOM) if offset == 0 else line
            offset += len(line)
            if len(line) > MOST_ROW_BYTES and not line.endswith(b"\n"):
                offset += _skip_line(file)
    except Damaged as error:
        raise Lost(offset, str(error)) from None


def _skip_line(file: BinaryIO) -> int:
    """Go to the next line without holding this one; the bytes passed over."""
    passed = 0
    while part := file.readline(BLOCK_BYTES):
        passed += len(part)
        if part.endswith(b"\n"):
            break
    return passed


def line_numbers(path: Path, offsets: Iterable[int]) -> Iterator[int]:
    """The numbers, from 1, of the lines that start at `offsets`, which ascend; reads the file once, up to the last."""
    number, at = 1, 0
    with unpacked(path) as file:
        for offset in offsets:
            assert offset >= at, "what has been read is not read again"
            while at < offset and (block := file.read(min(BLOCK_BYTES, offset - at))):
                number += block.count(b"\n")
                at += len(block)
            yield number


def json_rows(path: Path, start: int, stop: int) -> Iterator[Row]:
    """A row for each line of the range."""
    for offset, line in lines(path, start, stop):
        try:
            text = decoded(line)
            yield good(offset, text.rstrip("\r\n"), parse_object(text))
        except RowError as error:
            yield bad(offset, shown(line), error)


def parse_object(text: str) -> dict[str, Any]:
    """One JSON object; RowError where the text is anything else."""
    try:
        # Half the time of `json.loads`, which takes white space off both ends first; that tells what is wrong, too.
        row, end = _SCAN(text) if text[:1] == "{" else (None, 0)
        if not end or text[end:].strip(_JSON_BLANKS):
            row = json.loads(text)
    except json.JSONDecodeError as error:
        # Where the line ends too early, the decoder points behind its line break.
        column = min(error.pos, len(text.rstrip())) + 1
        raise RowError(f"not JSON: {error.msg} at column {column}") from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON that can be read: {error}") from None
    return as_object(row, text)


def decoded(line: bytes) -> str:
    """A row's bytes as text; RowError where they are none, or too many."""
    if len(line) > MOST_ROW_BYTES:
        raise RowError(f"more than {MOST_ROW_BYTES >> 20} MiB in one row")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8: {error.reason} at byte {error.start} of the row") from None


def as_object(row: Any, text: str) -> dict[str, Any]:
    """`row`, which `text` said; RowError where it is no object, or holds what no file can."""
    if "\\u" in text and ("\\ud" in text or "\\uD" in text):
        try:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise RowError("holds half of a surrogate pair (\\ud800 to \\udfff), which is no character") from None
    if not isinstance(row, dict):
        raise RowError(f"a JSON object is needed, not a {type(row).__name__}")
    return row
