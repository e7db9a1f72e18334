"""Lines, their places, and errors that name them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.data.formats import RowError
from launcher.data.jsonl import end_of_rows, line_number, parse_line, read_lines, read_rows
from launcher.errors import UserError

WriteRows = Callable[..., Path]


def test_rows_come_with_their_byte_offsets_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": 2}')
    assert list(read_rows(path)) == [(0, {"a": 1}), (17, {"a": 2})]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
@given(
    lines=st.lists(st.text(alphabet="aé \r", max_size=6), max_size=12),
    final_newline=st.booleans(),
    cuts=st.lists(st.integers(0, 80), max_size=5),
)
def test_byte_ranges_share_no_line_and_miss_none(
    tmp_path: Path, lines: list[str], final_newline: bool, cuts: list[int]
) -> None:
    path = tmp_path / "f"
    path.write_bytes(("\n".join(lines) + ("\n" if final_newline else "")).encode())
    edges = sorted({0, path.stat().st_size, *(min(cut, path.stat().st_size) for cut in cuts)})
    parts = [line for start, end in itertools.pairwise(edges) for line in read_lines(path, start, end)]
    assert parts == list(read_lines(path))


@pytest.mark.parametrize(
    ("line", "reason"),
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
def test_what_is_not_an_object_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        parse_line(line)


def test_a_broken_line_is_named_by_file_and_number_even_from_the_middle(write_rows: WriteRows) -> None:
    path = write_rows([{"a": 1}, "", {"a": 2}, '{"a": oops}'])
    with pytest.raises(UserError, match=rf"{path}:4: not JSON.*the line begins: {{\"a\": oops}}") as caught:
        list(read_rows(path, start_byte=12))
    assert "line 4" in caught.value.problems[0].remedy


def test_line_numbers_are_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a\nbb\n\nc\n")
    assert [line_number(path, offset) for offset in (0, 2, 5, 6)] == [1, 2, 3, 4]


@pytest.mark.parametrize(("limit", "rows"), [(0, 0), (1, 1), (2, 2), (3, 3), (9, 3)])
def test_a_limit_ends_the_range_after_so_many_rows(write_rows: WriteRows, limit: int, rows: int) -> None:
    path = write_rows([{"a": 1}, "", {"a": 2}, {"a": 3}])
    assert len(list(read_rows(path, 0, end_of_rows(path, limit)))) == rows
