"""What can be said of a source before anything is submitted, at constant cost.

Owns the checks that the login machine runs. Reads the beginning of a few files only; must not tokenise, ask the hub or
import anything heavy before a file needs it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from launcher.data.formats import FieldsError, learnt, to_example
from launcher.data.read import LostRows, Piece, Row, read, row_problem, unreadable
from launcher.data.read.kinds import kind_of
from launcher.data.read.piece import BY_OFFSET
from launcher.data.reject import RowError
from launcher.data.source import CleanConfig, Fix, Learns, Source
from launcher.errors import Problem
from launcher.remember import remembered

HEAD_BYTES = 4 << 20
_MOST_PROBLEMS = 5
_LOOKED_INTO = 3
"""Files of a source whose beginning is read."""


@remembered
def check_head(
    source: Source,
    key: str,
    clean: CleanConfig,
    max_bytes: int = HEAD_BYTES,
    *,
    learns: Learns = Learns.answers,
    labels: Sequence[str] = (),
) -> list[Problem]:
    """What is wrong with the files or with the first `max_bytes` of the first three; at most five problems.

    `key` is the config key that named the files, for problems of a whole file; bad rows are named by their place. Where
    `clean` drops broken rows, they are a problem only if they are too many. A hub source is not looked at.
    """
    found = unreadable(source, key, _LOOKED_INTO)
    if not found:
        for path in source.paths[:_LOOKED_INTO]:
            rows = _examined(source, Path(path), max_bytes, learns, labels)
            found += _bad_rows(_head(source, Path(path), max_bytes), rows, clean)
    return found[:_MOST_PROBLEMS]


def _examined(
    source: Source, path: Path, max_bytes: int, learns: Learns, labels: Sequence[str]
) -> Iterator[tuple[Row, RowError | None]]:
    """The rows of a file's head, each with what is wrong with it."""
    for row in _rows(_head(source, path, max_bytes), source, max_bytes):
        error = row.error
        if row.value is not None:
            try:
                learnt(to_example(row.value, source.format, source.columns), learns, labels)
            except RowError as found:
                error = found
        yield row, error


def _bad_rows(piece: Piece, rows: Iterable[tuple[Row, RowError | None]], clean: CleanConfig) -> Iterator[Problem]:
    """The broken rows of a file's head, one of each missing field; or one in the name of all, where few may be."""
    tolerant = clean.broken is not Fix.stop
    first: tuple[Row, RowError] | None = None
    count, broken, told = 0, 0, 0
    wrong_fields = set()
    for row, error in rows:
        count += 1
        if error is None:
            continue
        broken += 1
        first = first or (row, error)
        # A file of another format is one mistake, not five.
        repeated = isinstance(error, FieldsError) and error.reason in wrong_fields
        wrong_fields.add(error.reason)
        if (not tolerant or isinstance(error, LostRows)) and not repeated:
            yield row_problem(piece.path, piece.kind, row, error)
            told += 1
        if told == _MOST_PROBLEMS:
            return
    if tolerant and first is not None and broken > clean.most_broken * count:
        row, error = first
        share = f"broken like {broken - 1} more of the first {count}, which is over data.clean.most_broken"
        reason = f"{error.reason}; the row is {share}={clean.most_broken}"
        together = RowError(reason, valid=error.valid, remedy=error.remedy or "check the format and the columns")
        yield row_problem(piece.path, piece.kind, row, together)


@remembered
def check_template(source: Source, tokenizer: Path, key: str, learns: Learns = Learns.answers) -> list[Problem]:
    """The problem of rows of messages for a tokenizer folder that has no chat template; none for a readable other."""
    if not source.paths or _has_template(tokenizer) or unreadable(source, key, 1):
        return []
    for row in _rows(_head(source, Path(source.paths[0]), HEAD_BYTES), source, HEAD_BYTES):
        try:
            if row.value is None:
                return []
            example = learnt(to_example(row.value, source.format, source.columns), learns)
            if example.conversations[0].plain is not None:
                return []
        except RowError:
            # Told by check_head.
            return []
        remedy = "name a Jinja file, such as recipes/chat_templates/plain.jinja of this project"
        message = f"the rows of {source.name} are messages, and the tokenizer in {tokenizer} has no chat template"
        return [Problem(where=key, message=message, remedy=remedy)]
    return []


def _has_template(tokenizer: Path) -> bool:
    if (tokenizer / "chat_template.jinja").is_file() or (tokenizer / "additional_chat_templates").is_dir():
        return True
    try:
        document = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and bool(document.get("chat_template"))


def _head(source: Source, path: Path, max_bytes: int) -> Piece:
    """The beginning of a file, whatever its kind."""
    kind = kind_of(path)
    size = path.stat().st_size
    # Not more than there is of row groups or record batches, either.
    stop = min(size, max_bytes) if kind in BY_OFFSET else size
    return Piece(source=0, path=str(path), kind=kind, start=0, stop=stop, most=source.limit, size_bytes=stop)


def _rows(piece: Piece, source: Source, max_bytes: int) -> Iterator[Row]:
    """The rows until there are `max_bytes` of them."""
    seen = 0
    for row in read(piece, source):
        yield row
        seen += len(row.raw)
        if seen >= max_bytes:
            return
