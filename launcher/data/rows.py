"""The door to reading and encoding that preparation goes through: sources to pieces, pieces to rows, rows to tokens.

Owns nothing but the way to call them. Must not know parts or caches.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from launcher.data import formats
from launcher.data.formats import Conversation
from launcher.data.jsonl import end_of_rows, line_number, parse_line, read_lines
from launcher.data.order import Int64Array
from launcher.data.reject import RowError
from launcher.data.source import DataSpec, Format, Source
from launcher.data.template import Encoder, load_encoder
from launcher.data.tokens import AnyArray

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A share of a file that one worker reads alone."""

    source: int
    """Index of the source in the spec."""
    path: str
    """The file."""
    kind: str
    """What it holds."""
    start: int
    """Its first byte …"""
    stop: int
    """… and the first that is not its own."""
    most: int | None
    """Read at most so many rows."""
    size_bytes: int
    """About how much there is to read; for progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row, or why there is none."""

    place: int
    """Byte offset in the file."""
    raw: str
    """The row as text, for whoever wants to see it."""
    value: dict[str, Any] | None
    """What it holds."""
    error: RowError | None
    """Why it holds nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """One row as tokens: numpy arrays of one length."""

    ids: AnyArray
    """Token ids, uint32."""
    trained: AnyArray
    """Per token, bool: whether it carries loss. Never the one at position 0, since nothing predicts it."""


def pieces(sources: Sequence[Source], piece_bytes: int) -> list[Piece]:
    """All sources cut into pieces of about `piece_bytes`, in the order of their rows."""
    made = []
    for number, source in enumerate(sources):
        for path in source.paths:
            end = Path(path).stat().st_size if source.limit is None else end_of_rows(Path(path), source.limit)
            for start in range(0, end, piece_bytes):
                stop = min(start + piece_bytes, end)
                made.append(
                    Piece(
                        source=number,
                        path=path,
                        kind="lines",
                        start=start,
                        stop=stop,
                        most=None,
                        size_bytes=stop - start,
                    )
                )
    return made


def read(piece: Piece, source: Source) -> Iterator[Row]:
    """The rows of a piece, in order."""
    for place, line in read_lines(Path(piece.path), piece.start, piece.stop):
        raw = line.decode("utf-8", errors="replace").rstrip("\r\n")
        try:
            yield Row(place=place, raw=raw, value=parse_line(line), error=None)
        except RowError as error:
            yield Row(place=place, raw=raw, value=None, error=error)


def where(path: str, kind: str, place: int) -> str:
    """FILE:LINE of one row; reads the file up to there."""
    return f"{path}:{line_number(Path(path), place)}"


def resolved(source: Source) -> Source:
    """The source with its files on this machine."""
    return source


class LineNumbers:
    """Numbers the lines of a piece, from 1 and from the piece's own first, in one pass beside the reading.

    A kind whose places are numbers of rows needs no pass: its lines are its places, and it has none to add.
    """

    def __init__(self, piece: Piece) -> None:
        self._file = Path(piece.path).open("rb")  # noqa: SIM115
        self._file.seek(piece.start)
        self._position, self._stop = piece.start, piece.stop
        self._lines = 0

    def __enter__(self) -> LineNumbers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def at(self, places: Int64Array) -> Int64Array:
        """The line at each of `places`, ascending, none before those of an earlier call."""
        numbers = np.zeros(len(places), dtype=np.int64)
        done = 0
        while done < len(places):
            before, start = self._lines, self._position
            breaks = self._pass(int(places[-1]))
            upto = int(np.searchsorted(places, self._position, side="right"))
            numbers[done:upto] = before + np.searchsorted(breaks + start, places[done:upto]) + 1
            done = upto
        return numbers

    def total(self) -> int:
        """How many lines the piece has, blank ones too."""
        while self._position < self._stop:
            self._pass(self._stop)
        return self._lines

    def _pass(self, until: int) -> Int64Array:
        """Go one block on, to `until` at most; where in the block the line breaks are."""
        block = self._file.read(min(_BLOCK_BYTES, until - self._position))
        breaks = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))
        # A file that shrinks meanwhile is told of in the end; here it must not be waited for.
        self._position += len(block) or until - self._position
        self._lines += len(breaks)
        return breaks


def to_conversation(value: Mapping[str, Any], source: Source) -> Conversation:
    """A row's fields as a conversation; RowError."""
    return formats.to_conversation(value, source.format)


def format_of(value: Mapping[str, Any], source: Source) -> Format:
    """The format that a readable row has."""
    return formats.detect(value) if source.format is Format.auto else source.format


def order_fault(conversation: Conversation) -> str | None:
    """What is wrong with the order of turns."""
    roles = [message.role for message in conversation.messages]
    if "system" in roles[1:]:
        return f"message {roles.index('system', 1)} is a system message in the middle"
    talk = [role for role in roles if role != "system"]
    for number, (one, next_) in enumerate(itertools.pairwise(talk)):
        if one == next_ == "user":
            return f"messages {number} and {number + 1} are both the user's"
    if talk and talk[0] == "assistant":
        return "an answer to nobody comes first"
    return None


def empty_fault(conversation: Conversation) -> str | None:
    """Which turn, prompt or text is without a word."""
    for number, message in enumerate(conversation.messages):
        if message.role in ("user", "assistant") and not (message.content.strip() or message.tool_calls):
            return f"message {number} ({message.role}) is empty"
    if conversation.plain is not None and not conversation.plain.completion.strip():
        return "the completion is empty"
    return None


def encoding_fault(conversation: Conversation) -> str | None:
    """Which character says that the text was decoded wrongly."""
    texts = [message.content for message in conversation.messages]
    if conversation.plain is not None:
        texts += [conversation.plain.prompt, conversation.plain.completion]
    for text in texts:
        for char in text:
            if char == "\ufffd" or (char < " " and char not in "\t\n\r\f"):
                return f"holds the character {char!r}"
    return None


def open_encoder(spec: DataSpec) -> Encoder:
    """The encoder of a spec; UserError as `load_encoder`."""
    return load_encoder(spec.tokenizer, spec.chat_template)


def encode_all(encoder: Encoder, conversations: Sequence[Conversation]) -> list[Tokens | RowError]:
    """Each conversation as tokens, or why it cannot be."""
    return [_encode(encoder, conversation) for conversation in conversations]


def _encode(encoder: Encoder, conversation: Conversation) -> Tokens | RowError:
    try:
        made = encoder.encode(conversation)
    except RowError as error:
        return error
    return Tokens(ids=np.array(made.ids, dtype=np.uint32), trained=np.array(made.trained, dtype=np.bool_))
