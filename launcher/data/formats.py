"""Row shapes: from a JSON object to a conversation.

Owns what each format needs and the words for what is wrong with a row. Must not know files, line numbers (callers add
them) or tokenizers.
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
    Format.prompt_completion: '"prompt" and "completion", both text or both lists of messages',
    Format.alpaca: '"instruction" and "output", and perhaps "input"',
}
"""What a row of each format holds, for error texts."""

_FIELDS = {
    Format.messages: ("messages",),
    Format.prompt_completion: ("prompt", "completion"),
    Format.alpaca: ("instruction", "output"),
}

# Taori et al., Stanford Alpaca, 2023; the line break after "### Response:" is Alpaca-LoRA's, so that a prompt ends
# on a token of its own.
_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_ALPACA_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


class FieldsError(RowError):
    """The row lacks the fields of its format: most likely all rows of the file do."""

    def __init__(self, row: Mapping[str, Any], lacking: str, formats: Iterable[Format]) -> None:
        seen = ", ".join(f'"{field}"' for field in row) or "none"
        super().__init__(
            f"{lacking} (fields seen: {seen})",
            valid="; ".join(f"{format_.value}: {NEEDS[format_]}" for format_ in formats),
            remedy="rename the fields, e.g. jq -c '{prompt: .question, completion: .answer}' FILE > NEW_FILE",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn."""

    role: str
    """One of `ROLES`."""
    content: str
    """Its text."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Functions that the assistant calls: {name, arguments (an object)}."""
    train: bool | None = None
    """Whether it carries loss, under `data.train_on=flags`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainText:
    """A prompt and its completion, to be joined without any template."""

    prompt: str
    """Carries no loss."""
    completion: str
    """Carries loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
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


def detect(row: Mapping[str, Any]) -> Format:
    """The format whose fields `row` has; FieldsError listing those seen and what each format needs."""
    for format_, fields in _FIELDS.items():
        if all(field in row for field in fields):
            return format_
    raise FieldsError(row, "no row format has these fields", NEEDS)


def to_conversation(row: Mapping[str, Any], format_: Format) -> Conversation:
    """Read `row` as `format_` (`auto`: detect it); RowError where a field is missing or of the wrong type."""
    format_ = detect(row) if format_ is Format.auto else format_
    missing = [field for field in _FIELDS[format_] if field not in row]
    if missing:
        raise FieldsError(row, f'no "{missing[0]}"', [format_])
    return _READERS[format_](row)


def _read_messages(row: Mapping[str, Any]) -> Conversation:
    messages = _messages(row["messages"], "messages")
    _require_assistant(messages, "messages")
    return Conversation(messages=messages)


def _read_prompt_completion(row: Mapping[str, Any]) -> Conversation:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, list) and isinstance(completion, list):
        context, answer = _messages(prompt, "prompt"), _messages(completion, "completion")
        _require_assistant(answer, "completion")
        return Conversation(messages=context + answer, first_trained=len(context))
    if isinstance(prompt, list) or isinstance(completion, list):
        raise RowError('"prompt" and "completion" must both be text or both be lists of messages')
    return Conversation(plain=PlainText(prompt=_text(row, "prompt"), completion=_text(row, "completion")))


def _read_alpaca(row: Mapping[str, Any]) -> Conversation:
    instruction, output = _text(row, "instruction"), _text(row, "output")
    context = _text(row, "input") if row.get("input") is not None else ""
    prompt = _ALPACA_WITH_INPUT if context else _ALPACA_WITHOUT_INPUT
    question = f"{instruction}\n\n{context}" if context else instruction
    return Conversation(
        messages=(Message(role="user", content=question), Message(role="assistant", content=output)),
        plain=PlainText(prompt=prompt.format(instruction=instruction, input=context), completion=output),
    )


_READERS = {
    Format.messages: _read_messages,
    Format.prompt_completion: _read_prompt_completion,
    Format.alpaca: _read_alpaca,
}


def _messages(value: Any, field: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise RowError(f'"{field}" must be a list of messages with at least one in it, not {_kind(value)}')
    return tuple(_message(item, f"{field}[{place}]") for place, item in enumerate(value))


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, Mapping):
        raise RowError(f'{where} must be an object with "role" and "content", not {_kind(value)}')
    missing = [field for field in ("role", "content") if field not in value]
    if missing:
        seen = ", ".join(f'"{field}"' for field in value) or "none"
        raise RowError(f'{where} has no "{missing[0]}" (fields seen: {seen})')
    if value["role"] not in ROLES:
        raise RowError(f"{where} has the role {value['role']!r}; roles are {', '.join(ROLES)}")
    # Dropping the calls without a word would teach the model to answer nothing.
    if value.get("tool_calls"):
        raise RowError(f'{where} has "tool_calls", which are not supported')
    return Message(role=value["role"], content=_text(value, "content", where))


def _require_assistant(messages: tuple[Message, ...], field: str) -> None:
    if not any(message.role == "assistant" for message in messages):
        raise RowError(f'"{field}" has no assistant turn, so there is nothing to learn from it')


def _text(row: Mapping[str, Any], field: str, where: str = "") -> str:
    value = row[field]
    if not isinstance(value, str):
        raise RowError(f'{where + "." if where else ""}"{field}" must be text, not {_kind(value)}')
    return value


def _kind(value: Any) -> str:
    """A JSON value's type, in JSON's words."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    if isinstance(value, (list, str)) and not value:
        return f"an empty {'list' if isinstance(value, list) else 'text'}"
    return kinds.get(type(value), "a number")
