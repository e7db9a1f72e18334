"""Which format a row has, and reading it as that; columns may have other names than the format's fields."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from launcher.data.formats.learnt import learnt
from launcher.data.formats.messages import read_messages, read_sharegpt
from launcher.data.formats.pairs import read_alpaca, read_judged, read_preference, read_prompt_completion
from launcher.data.formats.shapes import (
    NEEDS,
    Conversation,
    Example,
    FieldsError,
    Labelled,
    PlainText,
    json_kind,
    text_of,
)
from launcher.data.reject import RowError
from launcher.data.source import Format, Learns

_FIELDS = {
    Format.messages: ("messages",),
    Format.sharegpt: ("conversations",),
    Format.preference: ("chosen", "rejected"),
    Format.judged: ("prompt", "completion", "label"),
    Format.prompt_completion: ("prompt", "completion"),
    Format.alpaca: ("instruction", "output"),
    Format.labelled: ("text", "label"),
    Format.text: ("text",),
}
_AS_NAMED: Mapping[str, str] = {}


def detect(row: Mapping[str, Any]) -> Format:
    """The format whose fields `row` has; FieldsError listing those seen and what each format needs."""
    # Tables hold null where a row of another format has a field.
    filled = tuple([field for field, value in row.items() if value is not None])
    format_ = _format_with(filled) or _format_with(tuple(row))
    if format_ is None:
        raise FieldsError(row, "no row format has these fields", NEEDS)
    return format_


@functools.lru_cache(maxsize=1024)
def _format_with(present: tuple[str, ...]) -> Format | None:
    """The first format that has its fields among these; the rows of a file are mostly alike."""
    return next((format_ for format_, fields in _FIELDS.items() if set(present).issuperset(fields)), None)


def to_example(row: Mapping[str, Any], format_: Format, columns: Mapping[str, str] = _AS_NAMED) -> Example:
    """Read `row` as `format_` (`auto`: detect it), its fields under the names in `columns` (field: column).

    RowError where a field is missing or of the wrong type.
    """
    return read_row(row, format_, columns)[1]


def read_row(row: Mapping[str, Any], format_: Format, columns: Mapping[str, str] = _AS_NAMED) -> tuple[Format, Example]:
    """`to_example`, and the format that it was read as."""
    fields = _renamed(row, columns) if columns else row
    if format_ is Format.auto:
        format_ = _detect_named(fields, columns) if columns else detect(fields)
    else:
        for field in _FIELDS[format_]:
            if field not in fields:
                raise FieldsError(row, f'no "{field}"', [format_])
    return format_, _READERS[format_](fields)


def to_conversation(row: Mapping[str, Any], format_: Format, columns: Mapping[str, str] = _AS_NAMED) -> Conversation:
    """`to_example` for objectives that learn to say what the row says; RowError for the other formats."""
    return learnt(to_example(row, format_, columns), Learns.answers).conversations[0]


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    for field, column in columns.items():
        if column not in row:
            raise FieldsError(row, f'no "{column}", which "{field}" is read from', [])
    moved = set(columns.values())
    others = {field: value for field, value in row.items() if field not in moved}
    return others | {field: row[column] for field, column in columns.items()}


def _detect_named(fields: Mapping[str, Any], columns: Mapping[str, str]) -> Format:
    """The format that the named columns make up, whatever else there is; else as `detect`."""
    named = {field: fields[field] for field in columns}
    try:
        return detect(named)
    except FieldsError:
        return detect(fields)


def _read_text(row: Mapping[str, Any]) -> Conversation:
    return Conversation(plain=PlainText(prompt="", completion=text_of(row, "text")))


def _read_labelled(row: Mapping[str, Any]) -> Labelled:
    label = row["label"]
    several = label if isinstance(label, list) else [label]
    if not all(isinstance(one, str | int | float) for one in several):
        seen = next(one for one in several if not isinstance(one, str | int | float))
        raise RowError(f'"label" must be text, a number or a list of these, not {json_kind(seen)}')
    return Labelled(text=text_of(row, "text"), label=tuple(label) if isinstance(label, list) else label)


_READERS: dict[Format, Callable[[Mapping[str, Any]], Example]] = {
    Format.messages: read_messages,
    Format.sharegpt: read_sharegpt,
    Format.preference: read_preference,
    Format.judged: read_judged,
    Format.prompt_completion: read_prompt_completion,
    Format.alpaca: read_alpaca,
    Format.labelled: _read_labelled,
    Format.text: _read_text,
}
