"""Row shapes, and what is said of rows that have none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from launcher.data.formats import (
    Conversation,
    FieldsError,
    Labelled,
    Message,
    PlainText,
    Preference,
    RowError,
    detect,
    to_conversation,
    to_example,
)
from launcher.data.source import Format

USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
CALLS = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
CALL = {"name": "add", "arguments": {"a": 1}}
TURNS = (Message(role="user", content="q"), Message(role="assistant", content="a"))


def calling(arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": arguments}}]}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [], "prompt": "x"}, Format.messages),
        ({"prompt": "x", "completion": "y"}, Format.prompt_completion),
        ({"prompt": "x", "completion": "y", "label": True}, Format.judged),
        ({"instruction": "x", "output": "y"}, Format.alpaca),
        ({"conversations": []}, Format.sharegpt),
        ({"prompt": "x", "chosen": "y", "rejected": "z"}, Format.preference),
        ({"text": "x", "label": 1}, Format.labelled),
        ({"text": "x"}, Format.text),
        ({"messages": None, "prompt": "x", "completion": "y"}, Format.prompt_completion),
        ({"prompt": None, "completion": "y"}, Format.prompt_completion),
    ],
)
def test_the_format_is_known_by_its_fields(row: dict[str, Any], expected: Format) -> None:
    assert detect(row) is expected


def test_unknown_fields_are_listed_with_what_each_format_needs() -> None:
    with pytest.raises(RowError, match=r'fields seen: "question", "answer"') as caught:
        detect({"question": "x", "answer": "y"})
    for format_ in Format:
        assert (f"{format_.value}: " in caught.value.valid) is (format_ is not Format.auto)


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
        ({"messages": [USER, {**ASSISTANT, "tool_calls": [{}]}]}, "messages", r'tool_calls"\[0\] must be'),
        ({"messages": [{**USER, "tool_calls": CALLS}, ASSISTANT]}, "messages", "only an assistant calls tools"),
        (
            {"messages": [USER, calling("{oops")]},
            "messages",
            r'\[1\]."tool_calls"\[0\]."arguments" is not JSON',
        ),
        ({"messages": [USER, calling("[1]")]}, "messages", "must be an object, not a list"),
        ({"messages": [USER, {**ASSISTANT, "train": 1}]}, "messages", '"train" must be true or false, not a number'),
        ({"messages": [USER, ASSISTANT], "tools": "oops"}, "messages", '"tools" is not JSON'),
        ({"messages": [USER, ASSISTANT], "tools": {"a": 1}}, "messages", '"tools" must be a list of objects'),
        ({"messages": [USER, ASSISTANT], "documents": [{"title": "t"}]}, "auto", r'documents\[0\] has no "text"'),
        ({"conversations": [{"from": "bot", "value": "x"}]}, "sharegpt", "is \"from\" 'bot'; valid are human"),
        ({"conversations": [{"from": "gpt"}]}, "sharegpt", r'conversations\[0\] has no "value"'),
        ({"conversations": [{"from": "human", "value": "x"}]}, "sharegpt", "no assistant turn"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "sharegpt", "is not JSON"),
        ({"text": None}, "text", '"text" must be text, not null'),
        ({"text": 5}, "auto", '"text" must be text, not a number'),
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


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
@pytest.mark.parametrize("calls", [CALLS, [CALL], [{"function": CALL}], [{**CALL, "arguments": '{"a": 1}'}]])
def test_tool_calls_are_read_in_every_spelling(content: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    result = {"role": "tool", "content": "1"}
    row = {"messages": [USER, {"role": "assistant", **content, "tool_calls": calls}, result, ASSISTANT]}
    _, call, tool, _ = to_conversation(row, Format.auto).messages
    assert call == Message(role="assistant", content="", tool_calls=(CALL,))
    assert tool == Message(role="tool", content="1")


def test_a_call_without_arguments_has_none() -> None:
    row = {"messages": [USER, calling(None)]}
    assert to_conversation(row, Format.auto).messages[1].tool_calls == ({"name": "add", "arguments": {}},)


def test_what_tables_fill_with_null_is_as_if_it_were_not_there() -> None:
    turns = [{**turn, "tool_calls": None, "train": None} for turn in (USER, ASSISTANT)]
    conversation = to_conversation({"messages": turns, "tools": None, "documents": None}, Format.auto)
    assert conversation == Conversation(messages=TURNS)


@pytest.mark.parametrize("packed", [False, True])
def test_tools_and_documents_come_with_the_messages(packed: bool) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    documents = [{"title": "t", "text": "x"}, {"text": "y"}]
    row = {"messages": [USER, ASSISTANT], "tools": json.dumps(tools) if packed else tools, "documents": documents}
    conversation = to_conversation(row, Format.auto)
    assert conversation.tools == tuple(tools)
    assert conversation.documents == tuple(documents)


def test_flags_say_which_turns_are_trained() -> None:
    row = {"messages": [USER, {**ASSISTANT, "train": False}, USER, {**ASSISTANT, "train": True}]}
    assert [turn.train for turn in to_conversation(row, Format.auto).messages] == [None, False, None, True]


def test_a_developer_is_the_system() -> None:
    row = {"messages": [{"role": "developer", "content": "d"}, USER, ASSISTANT]}
    assert to_conversation(row, Format.auto).messages[0] == Message(role="system", content="d")


def test_sharegpt_speakers_become_roles() -> None:
    said = [("human", "q"), ("function_call", json.dumps(CALL)), ("observation", "1"), ("gpt", "a")]
    row = {"conversations": [{"from": who, "value": text} for who, text in said], "system": "s", "tools": "[]"}
    messages = to_conversation(row, Format.auto).messages
    assert [turn.role for turn in messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert messages[2] == Message(role="assistant", content="", tool_calls=(CALL,))
    assert to_conversation({"conversations": [USER, ASSISTANT]}, Format.auto).messages == TURNS


def test_plain_text_is_all_completion() -> None:
    assert to_conversation({"text": "x"}, Format.auto).plain == PlainText(prompt="", completion="x")


GSM8K = {"question": "1 + 1?", "answer": "#### 2", "prompt": "not this"}


@pytest.mark.parametrize("format_", [Format.auto, Format.prompt_completion])
def test_columns_are_read_under_the_names_of_the_formats_fields(format_: Format) -> None:
    columns = {"prompt": "question", "completion": "answer"}
    assert to_conversation(GSM8K, format_, columns).plain == PlainText(prompt="1 + 1?", completion="#### 2")
    assert to_conversation(GSM8K, Format.auto, {"text": "answer"}).plain == PlainText(prompt="", completion="#### 2")


def test_named_columns_come_before_fields_that_are_there_anyway() -> None:
    row = {"messages": [USER, ASSISTANT], "q": "x", "a": "y"}
    assert to_conversation(row, Format.auto, {"prompt": "q", "completion": "a"}).messages == ()
    assert to_conversation({"turns": [USER, ASSISTANT]}, Format.auto, {"messages": "turns"}).messages == TURNS


@pytest.mark.parametrize("format_", [Format.auto, Format.alpaca])
def test_a_named_column_that_is_missing_is_told_with_those_there_are(format_: Format) -> None:
    with pytest.raises(FieldsError, match=r'no "quesiton".*fields seen: "question", "answer", "prompt"'):
        to_conversation(GSM8K, format_, {"prompt": "quesiton", "completion": "answer"})


def preference(row: dict[str, Any]) -> Preference:
    example = to_example(row, Format.auto)
    assert isinstance(example, Preference)
    return example


def test_two_answers_to_a_prompt_are_a_preference() -> None:
    worse = {"role": "assistant", "content": "b"}
    whole = {"chosen": [USER, ASSISTANT], "rejected": [USER, worse]}
    for row in (
        {"prompt": [USER], "chosen": [ASSISTANT], "rejected": [worse]},
        {"prompt": "q", "chosen": [ASSISTANT], "rejected": [worse]},
        {"prompt": "q", **whole},
        whole,
    ):
        found = preference(row)
        assert found.chosen == Conversation(messages=TURNS, first_trained=1)
        assert found.rejected.messages[1].content == "b"
    plain = preference({"prompt": "x", "chosen": "y", "rejected": "z"})
    assert plain.chosen.plain == PlainText(prompt="x", completion="y")
    assert plain.rejected.plain == PlainText(prompt="x", completion="z")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "x", "rejected": "y"}, 'a "prompt" is needed'),
        ({"chosen": [USER, ASSISTANT], "rejected": "y"}, "both be text or both be lists"),
        ({"prompt": [USER], "chosen": "x", "rejected": "y"}, '"prompt" and "chosen" must both be'),
        ({"chosen": [USER, ASSISTANT], "rejected": [ASSISTANT]}, "no common beginning"),
        ({"chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}, "are the same"),
        ({"chosen": [USER, ASSISTANT], "rejected": [USER]}, '"rejected" has no assistant turn'),
    ],
)
def test_a_preference_that_is_none_says_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        to_example(row, Format.preference)


@pytest.mark.parametrize(("label", "read"), [(1, 1), ("spam", "spam"), (0.5, 0.5), (["a", "b"], ("a", "b"))])
def test_a_label_may_be_one_or_several(label: Any, read: Any) -> None:
    assert to_example({"text": "x", "label": label}, Format.auto) == Labelled(text="x", label=read)


def test_a_label_that_is_none_is_refused() -> None:
    with pytest.raises(RowError, match='"label" must be text, a number or a list of these, not null'):
        to_example({"text": "x", "label": None}, Format.labelled)


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"prompt": "x", "chosen": "y", "rejected": "z"}, {"prompt": "prompt", "completion": "chosen"}),
        ({"text": "x", "label": "y"}, {"prompt": "text", "completion": "label"}),
    ],
)
def test_rows_that_are_no_answer_say_how_to_make_one_of_them(row: dict[str, Any], columns: dict[str, str]) -> None:
    with pytest.raises(RowError) as caught:
        to_conversation(row, Format.auto)
    assert ", ".join(f"{field}: {column}" for field, column in columns.items()) in caught.value.remedy
    assert to_conversation(row, Format.auto, columns).plain == PlainText(prompt="x", completion="y")
