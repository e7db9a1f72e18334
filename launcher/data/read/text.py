"""Plain text: a row is a line, a paragraph or the whole file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from launcher.data.read.lines import decoded, lines, lines_of
from launcher.data.read.piece import MOST_ROW_BYTES, Row, bad, good, shown
from launcher.data.read.streams import BLOCK_BYTES, unpacked
from launcher.data.reject import RowError
from launcher.data.source import Unit


def text_rows(path: Path, unit: Unit, start: int, stop: int) -> Iterator[Row]:
    """A row {"text": …} for each line, paragraph or file that begins in the range; blank ones are left out."""
    if unit is Unit.line:
        units = lines(path, start, stop)
    elif unit is Unit.paragraph:
        units = _paragraphs(path, start, stop)
    else:
        units = _whole(path)
    for offset, text in units:
        try:
            yield good(offset, shown(text), {"text": decoded(text).rstrip("\r\n")})
        except RowError as error:
            yield bad(offset, shown(text), error)


def _paragraphs(path: Path, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    with unpacked(path) as file:
        # One line early: whether it is blank decides whether a paragraph begins at `start`. One that begins there
        # itself is not ours.
        begin = _line_start(path, start - 1) if start else 0
        if begin:
            file.seek(begin)
        place, size = begin, 0
        parts: list[bytes] = []
        for offset, line in lines_of(file, begin, None):
            if line.isspace():
                if parts and place >= start:
                    yield place, b"".join(parts)
                parts, size = [], 0
            elif not parts and offset >= stop and file.seekable():
                return
            else:
                place = place if parts else offset
                # Once there is too much for `decoded`, more of it would only fill the memory.
                if size <= MOST_ROW_BYTES:
                    parts.append(line)
                size += len(line)
        if parts and place >= start:
            yield place, b"".join(parts)


def _line_start(path: Path, offset: int) -> int:
    """Where the line begins that holds byte `offset`."""
    with path.open("rb") as file:
        while offset > 0:
            begin = max(0, offset - BLOCK_BYTES)
            file.seek(begin)
            found = file.read(offset - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            offset = begin
    return 0


def _whole(path: Path) -> Iterator[tuple[int, bytes]]:
    parts: list[bytes] = []
    size = 0
    with unpacked(path) as file:
        for _, line in lines_of(file, 0, None):
            parts.append(line)
            size += len(line)
            if size > MOST_ROW_BYTES:
                break
    text = b"".join(parts)
    if text and not text.isspace():
        yield 0, text
