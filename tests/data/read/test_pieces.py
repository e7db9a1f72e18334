"""Pieces: every row once and in order, whatever their size; the same whoever cuts; limits end them."""

from __future__ import annotations

import itertools
import json
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.data.read import Piece, Row, pieces, read, where, where_all
from launcher.data.read.kinds import kind_of
from launcher.data.read.lines import lines
from launcher.data.source import Unit
from tests.data.read.files import rows_of, source_of, values_of

Write = Callable[..., Path]
ROWS = [{"text": f"row {n}"} for n in range(30)]
KINDS = [".jsonl", ".jsonl.gz", ".json", ".csv", ".txt", ".parquet", ".arrow", ".feather"]
property_test = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
some_lines = st.lists(st.text(alphabet="aé \r", max_size=6), max_size=12)


@property_test
@given(text=some_lines, final_newline=st.booleans(), cuts=st.lists(st.integers(0, 80), max_size=5))
def test_byte_ranges_share_no_line_and_miss_none(
    tmp_path: Path, text: list[str], final_newline: bool, cuts: list[int]
) -> None:
    path = tmp_path / "f"
    path.write_bytes(("\n".join(text) + ("\n" if final_newline else "")).encode())
    edges = sorted({0, path.stat().st_size, *(min(cut, path.stat().st_size) for cut in cuts)})
    parts = [line for start, end in itertools.pairwise(edges) for line in lines(path, start, end)]
    whole = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    assert [line.rstrip(b"\n") for _, line in parts] == whole
    assert parts == list(lines(path))


@property_test
@given(text=some_lines, unit=st.sampled_from(Unit), piece_bytes=st.integers(1, 30))
def test_pieces_of_text_of_any_size_hold_every_row_once(
    tmp_path: Path, text: list[str], unit: Unit, piece_bytes: int
) -> None:
    path = tmp_path / "f.txt"
    path.write_bytes("\n".join(["begin", *text]).encode())
    whole = [(row.place, row.value) for row in rows_of(path, unit=unit)]
    assert [(row.place, row.value) for row in rows_of(path, unit=unit, piece_bytes=piece_bytes)] == whole
    assert " ".join(value["text"] for _, value in whole if value).split() == ["begin", *"\n".join(text).split()]


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("piece_bytes", [1, 17, 100, 1000, 1 << 20])
def test_rows_and_places_do_not_depend_on_the_pieces(write: Write, suffix: str, piece_bytes: int) -> None:
    path = write("rows" + suffix, ROWS, batch=4)
    found = rows_of(path, piece_bytes=piece_bytes)
    assert [row.value for row in found] == ROWS
    kind = kind_of(path)
    named = [where(str(path), kind, row.place) for row in found]
    assert [name.removeprefix(str(path)).lstrip(": row") for name in named] == [str(number) for number in range(1, 31)]
    assert list(where_all(str(path), kind, [row.place for row in found])) == named


@pytest.mark.parametrize(
    ("suffix", "several"), [(".jsonl", True), (".parquet", True), (".arrow", True), (".json", False)]
)
def test_what_can_be_cut_is(write: Write, suffix: str, several: bool) -> None:
    path = write("rows" + suffix, ROWS)
    found = pieces([source_of(path)], 64)
    assert (len(found) > 3) is several
    assert sum(piece.size_bytes for piece in found) > 0


def test_pieces_are_the_same_whenever_they_are_cut_and_travel_between_processes(write: Write) -> None:
    sources = [source_of(write("a.jsonl", ROWS)), source_of(write("b.parquet", ROWS), write("c.csv", ROWS))]
    found = pieces(sources, 50)
    assert found == pieces(sources, 50) == pickle.loads(pickle.dumps(found))
    assert [piece.source for piece in found] == sorted(piece.source for piece in found)
    assert [row.value for piece in found for row in read(piece, sources[piece.source])] == ROWS * 3


@pytest.mark.parametrize("suffix", [*KINDS, ".txt.gz"])
@pytest.mark.parametrize("piece_bytes", [20, 1 << 20])
@pytest.mark.parametrize("limit", [1, 29, 30, 31, 45, 60, 99])
def test_a_limit_counts_rows_of_all_files_of_the_source(
    write: Write, suffix: str, piece_bytes: int, limit: int
) -> None:
    paths = write("1" + suffix, ROWS), write("2" + suffix, ROWS)
    assert values_of(*paths, limit=limit, piece_bytes=piece_bytes) == (ROWS * 2)[:limit]


def test_a_limit_is_for_its_own_source(write: Write) -> None:
    sources = [source_of(write("1.jsonl", ROWS), limit=2), source_of(write("2.jsonl", ROWS))]
    found: list[Piece] = pieces(sources, 1 << 20)
    assert [sum(1 for _ in read(piece, sources[piece.source])) for piece in found] == [2, 30]


def test_places_of_lines_are_counted_from_one_and_blank_lines_count(write: Write) -> None:
    path = write("f.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": 2}')
    first, second = rows_of(path)
    assert (first.place, first.value, first.raw) == (0, {"a": 1}, '{"a": 1}')
    assert (second.place, second.value) == (17, {"a": 2})
    assert where(str(path), kind_of(path), second.place) == f"{path}:4"


def test_paragraphs_end_at_blank_lines(write: Write) -> None:
    path = write("f.txt", b"\n\none\ntwo\n \t\n\nthree\r\n\r\nfour")
    found = rows_of(path, unit=Unit.paragraph, piece_bytes=3)
    assert [row.value and row.value["text"] for row in found] == ["one\ntwo", "three", "four"]
    assert [where(str(path), kind_of(path), row.place) for row in found] == [f"{path}:{line}" for line in (3, 7, 9)]


def test_a_whole_file_may_be_one_row(write: Write) -> None:
    paths = write("a.txt", b"one\n\ntwo\n"), write("b.txt.gz", b"three"), write("c.txt", b" \n")
    assert values_of(*paths, unit=Unit.file, piece_bytes=2) == [{"text": "one\n\ntwo"}, {"text": "three"}]


def test_a_table_is_never_held_whole(write: Write) -> None:
    path = write("big.parquet", [{"text": "x" * 1000 + str(n)} for n in range(20_000)], batch=20_000)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    most = 0
    for number, _ in enumerate(rows_of_lazily(path)):
        if number % 1000 == 0:
            most = max(most, pa.total_allocated_bytes() - before)
    assert number == 19_999
    assert most < 16 << 20
    assert tracemalloc.get_traced_memory()[1] < 30 << 20
    tracemalloc.stop()


def rows_of_lazily(path: Path) -> Iterator[Row]:
    source = source_of(path)
    return (row for piece in pieces([source], 1 << 20) for row in read(piece, source))


def test_a_json_array_is_never_held_whole(write: Write) -> None:
    path = write("big.json", json.dumps([{"text": "x" * 1000}] * 20_000).encode())
    tracemalloc.start()
    assert sum(1 for _ in rows_of_lazily(path)) == 20_000
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()
