"""Rows that cannot be read: each with its place and reason, and the good ones beside them untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from launcher.data.faults import empty_fault, order_fault
from launcher.data.formats import to_conversation
from launcher.data.read import Kind, LostRows, Row, row_problem, where
from launcher.data.read.lines import decoded, parse_object
from launcher.data.reject import RowError, Step
from launcher.data.source import Format
from tests.data.read.files import PACK, rows_of, values_of

Write = Callable[..., Path]
USER, ASSISTANT = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
LONG = "x" * 10_000_000


def line(*messages: Any) -> bytes:
    return json.dumps({"messages": messages}).encode()


# What stands in a line of the hostile file, and what is said of it; None where the row is good.
HOSTILE: list[tuple[bytes, str | None]] = [
    (line(USER, ASSISTANT), None),
    (b'{"messages": [', "not JSON: Expecting value at column 15"),
    (b"", None),
    (b'["messages"]', "a JSON object is needed, not a list"),
    (b"null", "a JSON object is needed, not a NoneType"),
    (b'{"messages": "\xff"}', "not UTF-8: invalid start byte at byte 14 of the row"),
    (b'{"messages": "\\ud83d"}', "half of a surrogate pair"),
    (line(USER, {"role": "assistant", "content": LONG}), None),
    (line(USER, {"role": "assistant", "content": 7}), 'messages[1]."content" must be text, not a number'),
    (line(USER, {"role": "assistant", "content": None}), 'messages[1]."content" must be text, not null'),
    (b'{"messages": null}', '"messages" must be a list of messages with at least one in it, not null'),
    (line(ASSISTANT, USER), "message 0 is an answer to nobody"),
    (line(USER, USER, ASSISTANT), "messages 0 and 1 are both the user's"),
    (line(USER, {"role": "assistant", "content": " \n"}), "message 1, the assistant's, is empty"),
    (b'{"messages": NaN}', '"messages" must be a list of messages with at least one in it, not a number'),
    (b'{"text": ' * 5000, "not JSON"),
    (b'{"a": ' + b"9" * 5000 + b"}", "not JSON that can be read"),
    (b'{"messages": ' + LONG.encode(), "not JSON"),
    (line(USER, ASSISTANT), None),
]


def fault_of(row: Row) -> str | None:
    """What is wrong with a row, as preparing finds it."""
    if row.value is None:
        assert row.error is not None
        assert row.error.step is Step.broken
        return row.error.reason
    try:
        conversation = to_conversation(row.value, Format.auto)
    except RowError as error:
        return error.reason
    return order_fault(conversation) or empty_fault(conversation)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("piece_bytes", [1 << 20, 1 << 30])
def test_every_row_of_a_hostile_file_is_told_by_its_line_and_reason(
    write: Write, suffix: str, piece_bytes: int
) -> None:
    path = write("hostile" + suffix, b"\n".join(text for text, _ in HOSTILE))
    found = rows_of(path, piece_bytes=piece_bytes)
    expected = [(number, reason) for number, (text, reason) in enumerate(HOSTILE, start=1) if text]
    assert [where(str(path), Kind.lines, row.place) for row in found] == [f"{path}:{number}" for number, _ in expected]
    for row, (number, reason) in zip(found, expected, strict=True):
        fault = fault_of(row)
        assert (fault is None) == (reason is None), (number, fault)
        assert (reason or "") in (fault or ""), number
    assert all(len(row.raw) <= 1 << 20 for row in found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": 1', "not JSON"),
        (b"[1, 2]", "object is needed, not a list"),
        (b'"text"', "object is needed, not a str"),
        (b'{"a": "\xff"}', "not UTF-8: invalid start byte at byte 7"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a":' * 100_000, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON that can be read"),
    ],
)
def test_what_is_not_an_object_says_why(text: bytes, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        parse_object(decoded(text))


def test_a_line_without_end_is_one_broken_row(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.data.read.lines.MOST_ROW_BYTES", 1 << 20)
    path = write("f.jsonl", b'{"a": 1}\n{"a": "' + b"x" * (5 << 20) + b'"}\n{"a": 2}\n')
    first, second, third = rows_of(path)
    assert (first.value, third.value) == ({"a": 1}, {"a": 2})
    assert second.error is not None
    assert "more than 1 MiB in one row" in second.error.reason
    assert where(str(path), Kind.lines, third.place) == f"{path}:3"


def reasons(rows: list[Row]) -> list[str | None]:
    return [row.error and row.error.reason for row in rows]


@pytest.mark.parametrize("packing", PACK)
def test_broken_elements_of_an_array_are_told_by_number_and_the_others_read(write: Write, packing: str) -> None:
    elements = [
        b'{"a": 1}',
        b'{"a": oops, "b": {"c": [1, "]"]}}',
        b'{"a": "\xff"}',
        b'"text, with comma"',
        b"nul",
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        json.dumps({"a": LONG}).encode(),
        b'{"a": [{"b": "}"}], "c": "\\""}',
    ]
    found = rows_of(write("f.json" + packing, b"\xef\xbb\xbf [\n" + b" ,\n".join(elements) + b"]\n"))
    assert [row.place for row in found] == list(range(1, 10))
    good = {row.place: row.value for row in found if row.value is not None}
    assert good == {1: {"a": 1}, 8: {"a": LONG}, 9: {"a": [{"b": "}"}], "c": '"'}}
    expected = ["not JSON: Expecting value", "not UTF-8", "not a str", "not JSON", "surrogate", "not JSON that can"]
    for told, words in zip([reason for reason in reasons(found) if reason], expected, strict=True):
        assert words in told


@pytest.mark.parametrize(
    ("text", "good", "words"),
    [
        (b'[{"a": 1}, {"a": 2', 1, "the file ends before this row does"),
        (b'[{"a": 1}, {"a": "x', 1, "the file ends before this row does"),
        (b'[{"a": 1}', 1, "a comma or the end of the array"),
        (b'[{"a": 1} {"a": 2}]', 1, "a comma or the end of the array"),
        (b'[{"a": 1}] {"a": 2}', 1, "something follows"),
        (b'{\n"a": 1\n}\n\n[]', 1, "something follows"),
        (b'{\n"a": \n', 0, "the file ends before this row does"),
        (b"nonsense", 0, "ends before this row does"),
    ],
)
def test_an_array_that_breaks_says_after_which_row(write: Write, text: bytes, good: int, words: str) -> None:
    *before, last = rows_of(write("f.json", text))
    assert [row.value for row in before] == [{"a": 1}] * good
    assert isinstance(last.error, LostRows)
    assert words in last.error.reason
    assert last.place == good + 1


def test_an_array_may_be_empty_or_one_object(write: Write) -> None:
    assert values_of(write("a.json", b" [ ] ")) == []
    assert values_of(write("b.json", b'{\n  "a": [1,\n 2]\n}')) == [{"a": [1, 2]}]


@pytest.mark.parametrize("block", [1, 2, 7])
def test_where_the_reading_of_an_array_pauses_changes_nothing(
    write: Write, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("launcher.data.read.json_array._BLOCK_CHARS", block)
    values = [{"a": -1.5e10, "b": 'é\u2028\\"😀'}, {"c": [True, None, {"d": "[,]"}]}, {"n": 1234567890}]
    text = json.dumps(values)[:-1] + ', {"x": nope}, 12345, {"y": 1}]'
    found = rows_of(write("f.json", text.encode()))
    assert [row.value for row in found] == [*values, None, None, {"y": 1}]
    assert [row.raw for row in rows_of(write("n.json", b"[12345, 67.5e3]"))] == ["12345", "67.5e3"]


def test_records_of_csv_that_do_not_fit_the_header_are_told(write: Write) -> None:
    text = (
        b'\xef\xbb\xbfquestion,answer\r\n"1,\n2",a\r\nonly one\r\n\r\nx,y,z\r\n\xff,b\r\n"q"q,a\r\n,\r\nlast,"open\r\n'
    )
    found = rows_of(write("f.csv", text))
    good = {row.place: row.value for row in found if row.value is not None}
    assert good == {1: {"question": "1,\n2", "answer": "a"}, 6: {"question": "", "answer": ""}}
    told = [reason for reason in reasons(found) if reason]
    for reason, words in zip(told, ["1 fields", "3 fields", "not UTF-8", "not CSV", "not CSV"], strict=True):
        assert words in reason
    assert [row.place for row in found] == list(range(1, 8))


@pytest.mark.parametrize(
    ("header", "words"),
    [(b"a,b,a\n1,2,3\n", 'the column "a" twice'), (b"\xff,b\n1,2\n", "not UTF-8"), (b'"a', "not CSV")],
)
def test_a_header_that_is_none_ends_the_file(write: Write, header: bytes, words: str) -> None:
    (row,) = rows_of(write("f.csv", header))
    assert isinstance(row.error, LostRows)
    assert words in row.error.reason


def test_a_long_field_of_csv_is_read(write: Write) -> None:
    assert values_of(write("f.csv", b"a,b\n" + LONG.encode() + b",1\n")) == [{"a": LONG, "b": "1"}]


def test_one_value_of_a_table_that_python_cannot_hold_costs_one_row(write: Write) -> None:
    raw = pa.array([b"a", b"\xff", b"c"], pa.binary()).view(pa.string())
    path = write("x", b"").with_name("f.parquet")
    pq.write_table(pa.table({"text": raw}), path)
    first, second, third = rows_of(path)
    assert (first.value, third.value) == ({"text": "a"}, {"text": "c"})
    assert second.error is not None
    assert "not UTF-8" in second.error.reason
    assert second.place == 2


def test_a_problem_shows_where_the_row_is_and_how_it_begins(write: Write) -> None:
    path = write("f.jsonl", b'{"a": 1}\n\n{"a": \x07oops}' + b"x" * 100)
    row = rows_of(path)[1]
    assert row.error is not None
    problem = row_problem(str(path), Kind.lines, row, row.error)
    assert problem.where == f"{path}:3"
    assert 'not JSON: Expecting value at column 7; the row begins: {"a": �oops}xxx' in problem.message
    assert problem.message.endswith("x…")
