"""What a row becomes: a conversation, a preference, a judged answer or a labelled text.

And the words for a row that is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.data.reject import RowError
from launcher.data.source import Format

ROLES = ("system", "user", "assistant", "tool")

NEEDS = {
    Format.messages: '"messages": [{"role": …, "content": …}, …]',
    Format.sharegpt: '"conversations": [{"from": …, "value": …}, …]',
    Format.preference: '"chosen" and "rejected", and perhaps "prompt": all text or all lists of messages',
    Format.judged: '"prompt", "completion" and "label" (true: good, false: bad)',
    Format.prompt_completion: '"prompt" and "completion", both text or both lists of messages',
    Format.alpaca: '"instruction" and "output", and perhaps "input"',
    Format.labelled: '"text" and "label"',
    Format.text: '"text"',
}
"""What a row of each format holds, for error texts; those that need more come first."""


@dataclass(kw_only=True, slots=True)
class Message:
    """One turn."""

    role: str
    """One of `ROLES`."""
    content: str
    """Its text; may be empty beside tool calls."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Functions that the assistant calls: {name, arguments (an object)}."""
    train: bool | None = None
    """Whether it carries loss, under `data.train_on=flags`."""


@dataclass(kw_only=True, slots=True)
class PlainText:
    """A prompt and its completion, to be joined without any template."""

    prompt: str
    """Carries no loss; empty for plain text."""
    completion: str
    """Carries loss."""


@dataclass(kw_only=True, slots=True)
class Conversation:
    """A row in every form it can be rendered in; the messages are preferred where there is a chat template."""

    messages: tuple[Message, ...] = ()
    """The turns; empty when the row is plain text only."""
    first_trained: int = 0
    """Assistant turns before this index are context and carry no loss."""
    plain: PlainText | None = None
    """The form without a chat template; None when there is none."""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the functions that may be called."""
    documents: tuple[dict[str, Any], ...] = ()
    """Retrieved texts to answer from: {title, text}."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """Two answers to the same."""

    chosen: Conversation
    """With the better one."""
    rejected: Conversation
    """With the worse one; it begins like `chosen`, up to `first_trained`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """A text and what it is."""

    text: str
    """The text."""
    label: str | int | float | tuple[str | int | float, ...]
    """One class, several of them, or a number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """An answer and what was thought of it."""

    conversation: Conversation
    """With the answer."""
    good: bool
    """Whether it is one to give."""


Example = Conversation | Preference | Judged | Labelled


class FieldsError(RowError):
    """The row lacks the fields of its format: most likely all rows of the file do."""

    def __init__(self, row: Mapping[str, Any], lacking: str, formats: Iterable[Format]) -> None:
        super().__init__(
            f"{lacking} (fields seen: {listed(row)})",
            valid="; ".join(f"{format_.value}: {NEEDS[format_]}" for format_ in formats),
            remedy="say which column is which: {path: FILE, columns: {prompt: question, completion: answer}}",
        )


def listed(fields: Iterable[str]) -> str:
    """Field names for an error text."""
    return ", ".join(f'"{field}"' for field in fields) or "none"


def text_of(row: Mapping[str, Any], field: str, where: str = "") -> str:
    """The field's text; RowError where it is something else."""
    value = row[field]
    if not isinstance(value, str):
        raise RowError(f'{where + "." if where else ""}"{field}" must be text, not {json_kind(value)}')
    return value


def json_kind(value: Any) -> str:
    """A value's type, in JSON's words."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    if isinstance(value, (list, str)) and not value:
        return f"an empty {'list' if isinstance(value, list) else 'text'}"
    return kinds.get(type(value), "a number")
