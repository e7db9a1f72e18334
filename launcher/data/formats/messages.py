"""Lists of turns, with what stands beside them: tools and documents. Both spellings, OpenAI's and ShareGPT's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from launcher.data.formats.shapes import ROLES, Conversation, Message, json_kind, listed, text_of
from launcher.data.reject import RowError

# OpenAI renamed the system role; open models' templates know only its first name.
_RENAMED = {"developer": "system"}
_SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
    **{role: role for role in ROLES},
}


def read_messages(row: Mapping[str, Any]) -> Conversation:
    """{"messages": […]}, perhaps with "tools" and "documents"."""
    messages = turns(row["messages"], "messages")
    require_assistant(messages, "messages")
    return Conversation(messages=messages, tools=_tools(row), documents=_documents(row))


def read_sharegpt(row: Mapping[str, Any]) -> Conversation:
    """{"conversations": [{"from", "value"}, …]}, perhaps with "system", "tools" and "documents"."""
    value = row["conversations"]
    _require_list(value, "conversations")
    messages = tuple(_sharegpt_turn(item, f"conversations[{place}]") for place, item in enumerate(value))
    require_assistant(messages, "conversations")
    if row.get("system"):
        messages = (Message(role="system", content=text_of(row, "system")), *messages)
    return Conversation(messages=messages, tools=_tools(row), documents=_documents(row))


def turns(value: Any, field: str) -> tuple[Message, ...]:
    """A list of {"role", "content", …}; RowError where it is none."""
    _require_list(value, field)
    return tuple(_turn(item, f"{field}[{place}]") for place, item in enumerate(value))


def require_assistant(messages: tuple[Message, ...], field: str) -> None:
    """RowError where nobody answers."""
    if not any(message.role == "assistant" for message in messages):
        raise RowError(f'"{field}" has no assistant turn, so there is nothing to learn from it')


def _require_list(value: Any, field: str) -> None:
    if not isinstance(value, list) or not value:
        raise RowError(f'"{field}" must be a list of messages with at least one in it, not {json_kind(value)}')


def _turn(value: Any, where: str) -> Message:
    _require_fields(value, where, "role", "content")
    role = value["role"]
    role = _RENAMED.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        raise RowError(f"{where} has the role {role!r}; roles are {', '.join(ROLES)}")
    calls = _calls(value.get("tool_calls"), f'{where}."tool_calls"')
    if calls and role != "assistant":
        raise RowError(f'{where} has "tool_calls", but only an assistant calls tools, not a {role}')
    train = value.get("train")
    if train is not None and not isinstance(train, bool):
        raise RowError(f'{where}."train" must be true or false, not {json_kind(train)}')
    silent = calls and value.get("content") is None
    content = "" if silent else text_of(value, "content", where)
    return Message(role=role, content=content, tool_calls=calls, train=train)


def _sharegpt_turn(value: Any, where: str) -> Message:
    if isinstance(value, Mapping) and "role" in value and "from" not in value:
        return _turn(value, where)
    _require_fields(value, where, "from", "value")
    speaker, text = value["from"], text_of(value, "value", where)
    if not isinstance(speaker, str) or speaker not in _SHAREGPT_ROLES:
        raise RowError(f'{where} is "from" {speaker!r}; valid are {", ".join(_SHAREGPT_ROLES)}')
    if speaker == "function_call":
        calls = _calls(_parsed(text, f'{where}."value"'), f'{where}."value"')
        return Message(role="assistant", content="", tool_calls=calls)
    return Message(role=_SHAREGPT_ROLES[speaker], content=text)


def _require_fields(value: Any, where: str, first: str, second: str) -> None:
    if not isinstance(value, Mapping):
        raise RowError(f'{where} must be an object with "{first}" and "{second}", not {json_kind(value)}')
    # Beside tool calls the content is often left out.
    optional = (second,) if value.get("tool_calls") else ()
    missing = [field for field in (first, second) if field not in value and field not in optional]
    if missing:
        raise RowError(f'{where} has no "{missing[0]}" (fields seen: {listed(value)})')


def _calls(value: Any, where: str) -> tuple[dict[str, Any], ...]:
    """Tool calls as {name, arguments}, from OpenAI's {"type", "function": {…}} or the bare form."""
    if not value:
        return ()
    calls = value if isinstance(value, list) else [value]
    return tuple(_call(call, f"{where}[{place}]") for place, call in enumerate(calls))


def _call(value: Any, where: str) -> dict[str, Any]:
    function = value.get("function", value) if isinstance(value, Mapping) else value
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise RowError(f'{where} must be {{"function": {{"name": …, "arguments": …}}}}, not {json_kind(value)}')
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _parsed(arguments, f'{where}."arguments"')
    if arguments is not None and not isinstance(arguments, Mapping):
        raise RowError(f'{where}."arguments" must be an object, not {json_kind(arguments)}')
    return {"name": function["name"], "arguments": dict(arguments or {})}


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{where} is not JSON: {error}") from None


def _tools(row: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The functions that may be called; some files hold them as JSON in a text."""
    value = row.get("tools")
    value = _parsed(value, '"tools"') if isinstance(value, str) and value else value
    return _objects(value, "tools")


def _documents(row: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    documents = _objects(row.get("documents"), "documents")
    for place, document in enumerate(documents):
        if not isinstance(document.get("text"), str):
            raise RowError(f'documents[{place}] has no "text" (fields seen: {listed(document)})')
    return documents


def _objects(value: Any, field: str) -> tuple[dict[str, Any], ...]:
    if not value:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise RowError(f'"{field}" must be a list of objects')
    return tuple(dict(item) for item in value)
