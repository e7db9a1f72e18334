"""A JSON array of objects, element by element: memory is bounded by the largest one, not by the file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from launcher.data.read.lines import as_object
from launcher.data.read.piece import MOST_ROW_BYTES, Lost, Row, bad, good
from launcher.data.read.streams import UNDECODED, Damaged, characters
from launcher.data.reject import RowError

# What a damaged file loses before the damage, at most.
_BLOCK_CHARS = 256 << 10
# An error or an end this near to the end of what has been read may only mean that the rest is still to come.
_NEAR_END_CHARS = 16
_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*")


def array_rows(path: Path) -> Iterator[Row]:
    """A row for each element of the array, or the one object that the file is."""
    number = 1
    try:
        with characters(path) as file:
            window = _Window(file)
            if window.next_char() != "[":
                yield window.row(number)
                number += 1
            else:
                window.at += 1
                while window.next_char() != "]":
                    yield window.row(number)
                    number += 1
                    if window.next_char() == ",":
                        window.at += 1
                    elif window.next_char() != "]":
                        raise Lost(number, "a comma or the end of the array is needed here")
                window.at += 1
            if window.next_char():
                raise Lost(number, "something follows the end of the JSON")
    except Damaged as error:
        raise Lost(number, str(error)) from None


class _Window:
    """The part of the text that is being read."""

    def __init__(self, file: TextIOWrapper) -> None:
        self._file = file
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._ended = False
        self.at = 0

    def next_char(self) -> str:
        """The next character that is no space; none at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self.at)
            assert match is not None, "it matches nothing too"
            self.at = match.end()
            if self.at < len(self._text) or self._ended:
                return self._text[self.at : self.at + 1]
            self._more()

    def row(self, number: int) -> Row:
        """The element that begins here; goes behind it. `Lost` where its end cannot be found."""
        self.next_char()
        try:
            value, end = self._element(number)
        except RowError as error:
            end = self._end_of_broken(number, error.reason)
            text = self._take(end)
            return bad(number, UNDECODED.sub("\ufffd", text), error)
        text = self._take(end)
        if not text.isascii() and (undecoded := UNDECODED.search(text)):
            reason = f"not UTF-8: an invalid byte at character {undecoded.start()} of the row"
            return bad(number, UNDECODED.sub("\ufffd", text), RowError(reason))
        try:
            return good(number, text, as_object(value, text))
        except RowError as error:
            return bad(number, text, error)

    def _element(self, number: int) -> tuple[Any, int]:
        while True:
            try:
                value, end = self._decode(self._text, self.at)
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - _NEAR_END_CHARS
                if self._ended or not unfinished:
                    raise RowError(f"not JSON: {error.msg} at character {error.pos - self.at}") from None
            except (ValueError, RecursionError) as error:
                raise RowError(f"not JSON that can be read: {error}") from None
            else:
                # A number may go on with its fraction or exponent.
                if end < len(self._text) - _NEAR_END_CHARS or self._ended:
                    return value, end
            self._more(number)

    def _end_of_broken(self, number: int, reason: str) -> int:
        """Where the element ends, by its brackets."""
        while True:
            depth = 0
            for match in _BRACKETS.finditer(self._text, self.at):
                sign = match.group()
                if depth == 0 and sign in (",", "]"):
                    return match.start()
                depth += (sign in ("[", "{")) - (sign in ("]", "}"))
                if sign == '"':
                    break
                if depth == 0 and sign in ("]", "}"):
                    return match.end()
            if self._ended:
                raise Lost(number, f"{reason}, and the file ends before this row does")
            self._more(number)

    def _take(self, end: int) -> str:
        text = self._text[self.at : end]
        self.at = end
        return text

    def _more(self, number: int = 1) -> None:
        rest = self._text[self.at :]
        if len(rest) > MOST_ROW_BYTES:
            raise Lost(number, f"more than {MOST_ROW_BYTES >> 20} MiB in one row")
        # At least doubled, so that an element is not begun over and over.
        block = self._file.read(max(_BLOCK_CHARS, len(rest)))
        self._ended = not block
        self._text = rest + block
        self.at = 0
