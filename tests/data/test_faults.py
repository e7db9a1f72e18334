"""Rows that read well and are wrong all the same."""

from __future__ import annotations

import pytest

from launcher.data.faults import empty_fault, encoding_fault, order_fault
from launcher.data.formats import Conversation, Message, PlainText

CALL = {"name": "add", "arguments": {}}
LETTERS = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "c": "assistant"}


def turns(letters: str) -> Conversation:
    """A turn per letter; `c` is an assistant that calls a tool."""
    calls = {"c": (CALL,)}
    return Conversation(
        messages=tuple(Message(role=LETTERS[one], content="x", tool_calls=calls.get(one, ())) for one in letters)
    )


def said(*texts: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(messages=tuple(Message(role=roles[n % 2], content=text) for n, text in enumerate(texts)))


@pytest.mark.parametrize("letters", ["", "ua", "sua", "uaua", "ucta", "ucttcta", "uata", "uc", "sucta"])
def test_turns_in_order_are_left_alone(letters: str) -> None:
    assert order_fault(turns(letters)) is None


@pytest.mark.parametrize(
    ("letters", "words"),
    [
        ("usa", "message 1 is a system message"),
        ("ssua", "message 1 is a system message"),
        ("uua", "messages 0 and 1 are both the user's"),
        ("a", "message 0 is an answer to nobody"),
        ("sa", "message 1 is an answer to nobody"),
        ("uaa", "message 2 is an answer to nobody"),
        ("uta", "message 1 is a tool's result that nobody asked for"),
        ("ucatua", "message 2 is an answer to nobody"),
        ("uctuata", "message 5 is a tool's result that nobody asked for"),
        ("uau", "the last message is not the assistant's but the user's"),
        ("uct", "the last message is not the assistant's but the tool's"),
    ],
)
def test_turns_out_of_order_are_named(letters: str, words: str) -> None:
    assert words in (order_fault(turns(letters)) or "")


@pytest.mark.parametrize(
    ("conversation", "words"),
    [
        (said("q", ""), "message 1, the assistant's, is empty"),
        (said("q", " \n\t\u00a0\u200b"), "message 1"),
        (said("", "a"), "message 0, the user's, is empty"),
        (Conversation(plain=PlainText(prompt="x", completion=" ")), "the completion is empty"),
        (Conversation(plain=PlainText(prompt="", completion="\n")), "the text is empty"),
    ],
)
def test_what_says_nothing_is_named(conversation: Conversation, words: str) -> None:
    assert words in (empty_fault(conversation) or "")


def test_few_words_are_words_and_calls_and_results_need_none() -> None:
    assert empty_fault(said("?", "😀")) is None
    silent = Message(role="assistant", content="", tool_calls=(CALL,))
    tool, system = Message(role="tool", content=""), Message(role="system", content="")
    assert empty_fault(Conversation(messages=(system, *said("q").messages, silent, tool))) is None
    assert empty_fault(Conversation(plain=PlainText(prompt="", completion="x"))) is None


@pytest.mark.parametrize(
    "text", ["caf\ufffd", "a\x00b", "\x1b[0m", "\x7f", "\x9d", "cafÃ©", "donâ€™t", "Â£5", "ðŸ˜Š", "Â\u00a0x"]
)
def test_text_that_was_decoded_wrongly_is_shown(text: str) -> None:
    for conversation in (said("q", text), Conversation(plain=PlainText(prompt=text, completion="x"))):
        fault = encoding_fault(conversation)
        assert fault is not None
        assert "U+" in fault
        assert fault.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "café\t\r\n",
        "NÃO É",
        "«IRMû",
        "Â», dit-elle",
        "“don’t”",
        "日本語",
        "ð Þ",
        "5 €",
        "\U0001f60a",
        "é" * 9,
        "a\u0301",
    ],
)
def test_other_languages_and_signs_are_left_alone(text: str) -> None:
    assert encoding_fault(said("q", text)) is None


def test_what_was_really_decoded_wrongly_is_found() -> None:
    for text in ("é", "ü", "’", "“", "–", "…", "😊", "ñ", "£"):
        for wrong in ("cp1252", "latin-1"):
            assert encoding_fault(said("q", text.encode().decode(wrong, errors="replace"))) is not None, (text, wrong)
