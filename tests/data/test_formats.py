"""Row shapes, and what is said of rows that have none."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.data.formats import Message, PlainText, RowError, detect, to_conversation
from launcher.data.source import Format

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
TURNS = (Message(role="user", content="q"), Message(role="assistant", content="a"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [], "prompt": "x"}, Format.messages),
        ({"prompt": "x", "completion": "y"}, Format.prompt_completion),
        ({"instruction": "x", "output": "y"}, Format.alpaca),
    ],
)
def test_the_format_is_known_by_its_fields(row: dict[str, Any], expected: Format) -> None:
    assert detect(row) is expected


def test_unknown_fields_are_listed_with_what_each_format_needs() -> None:
    with pytest.raises(RowError, match=r'fields seen: "question", "answer"') as caught:
        detect({"question": "x", "answer": "y"})
    for format_ in ("messages", "prompt_completion", "alpaca"):
        assert f"{format_}: " in caught.value.valid


def test_messages_become_turns() -> None:
    assert to_conversation({"messages": [USER, ASSISTANT]}, Format.auto).messages == TURNS


def test_text_pairs_are_plain_and_have_no_turns() -> None:
    conversation = to_conversation({"prompt": "x", "completion": "y"}, Format.auto)
    assert conversation.plain == PlainText(prompt="x", completion="y")
    assert conversation.messages == ()


def test_only_the_completion_of_message_pairs_is_trained() -> None:
    conversation = to_conversation({"prompt": [USER, ASSISTANT, USER], "completion": [ASSISTANT]}, Format.auto)
    assert len(conversation.messages) == 4
    assert conversation.first_trained == 3


def test_alpaca_is_both_turns_and_the_classic_text() -> None:
    conversation = to_conversation({"instruction": "Add.", "input": "1 2", "output": "3"}, Format.auto)
    assert [turn.content for turn in conversation.messages] == ["Add.\n\n1 2", "3"]
    assert conversation.plain is not None
    assert conversation.plain.prompt.endswith("### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n")
    assert conversation.plain.completion == "3"


@pytest.mark.parametrize("extra", [{}, {"input": ""}, {"input": None}])
def test_alpaca_without_input_leaves_the_section_out(extra: dict[str, Any]) -> None:
    conversation = to_conversation({"instruction": "Be {nice}.", "output": "ok", **extra}, Format.alpaca)
    assert conversation.messages[0].content == "Be {nice}."
    assert conversation.plain is not None
    assert "### Input" not in conversation.plain.prompt


@pytest.mark.parametrize(
    ("row", "format_", "reason"),
    [
        ({"messages": "hello"}, "messages", '"messages" must be a list of messages .* not text'),
        ({"messages": []}, "messages", "at least one"),
        ({"messages": [USER]}, "messages", "no assistant turn"),
        ({"messages": [USER, "hi"]}, "messages", r"messages\[1\] must be an object"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages", r'messages\[1\] has no "content"'),
        ({"messages": [{"role": "bot", "content": ""}]}, "messages", "'bot'; roles are system, user, assistant, tool"),
        ({"messages": [{"role": [], "content": ""}]}, "messages", r"the role \[\]"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "messages", "must be text, not null"),
        ({"messages": [USER, {**ASSISTANT, "tool_calls": [{}]}]}, "messages", "tool_calls"),
        ({"prompt": "x", "completion": 3}, "prompt_completion", '"completion" must be text, not a number'),
        ({"prompt": "x", "completion": [ASSISTANT]}, "auto", "both be text or both be lists"),
        ({"prompt": [USER], "completion": [USER]}, "auto", '"completion" has no assistant turn'),
        ({"instruction": {}, "output": "y"}, "alpaca", '"instruction" must be text, not an object'),
        ({"instruction": "x", "output": "y"}, "messages", 'no "messages"'),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], format_: str, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        to_conversation(row, Format[format_])
