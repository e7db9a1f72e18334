"""Every kind of file, however compressed, gives the same rows; one that is not what it says is refused."""

from __future__ import annotations

import gzip
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from launcher.data.read import Kind, LostRows, unreadable, where
from launcher.data.read.kinds import COMPRESSIONS, SUFFIXES, KindError, kind_of
from launcher.errors import UserError
from tests.data.read.files import PACK, encoded, rows_of, source_of, values_of

Write = Callable[..., Path]
ROWS = [{"text": f"row {n}, é😀", "tag": str(n % 3)} for n in range(20)]
TABLES = (".parquet", ".arrow", ".feather")
TEXTUAL = (".jsonl", ".json", ".csv", ".tsv")


@pytest.mark.parametrize("suffix", [*(kind + packing for kind in TEXTUAL for packing in PACK), *TABLES])
def test_every_kind_holds_the_same_rows(write: Write, suffix: str) -> None:
    path = write("rows" + suffix, ROWS)
    assert unreadable(source_of(path), "data.train") == []
    assert values_of(path) == ROWS
    assert values_of(path, piece_bytes=100) == ROWS


@pytest.mark.parametrize("packing", PACK)
def test_plain_text_holds_only_text(write: Write, packing: str) -> None:
    assert values_of(write("rows.txt" + packing, ROWS)) == [{"text": row["text"]} for row in ROWS]


@pytest.mark.parametrize("suffix", [*TEXTUAL[:2], *TABLES])
def test_a_file_without_a_suffix_is_known_by_its_content(write: Write, suffix: str) -> None:
    path = write("rows" + suffix, ROWS).rename(write("x", b"").with_name("0a1b2c"))
    assert values_of(path) == ROWS


def test_several_compressed_parts_in_one_file_are_all_read(write: Write) -> None:
    for packing, pack in PACK.items():
        halves = [encoded(ROWS[:10], ".jsonl"), encoded(ROWS[10:], ".jsonl")]
        path = write("x", b"").with_name("rows.jsonl" + packing)
        path.write_bytes(b"".join(pack(half) for half in halves))
        assert values_of(path) == ROWS, packing


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"a": 1}\n{"a": 2}\n', Kind.lines),
        ('{"a": 1}', Kind.lines),
        ('\ufeff {"a": 1}\n{"a": 2}\n', Kind.lines),
        ('{"a": oops}\n{"a": 2}\n', Kind.lines),
        ('{\n "a": 1\n}', Kind.json),
        ('{"a": [\n1]}', Kind.json),
        ("[]", Kind.json),
        ("nonsense", Kind.json),
    ],
)
def test_a_json_file_may_hold_lines_too(write: Write, text: str, kind: Kind) -> None:
    assert kind_of(write("rows.json", text.encode())) is kind


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "is gzip-compressed, and its name does not say so"),
        ("a.jsonl.gz", b"{}", "is not gzip-compressed, though its name says so"),
        ("a.jsonl", b' [\n{"messages": []}]', "is one JSON array, not JSON lines"),
        ("a.csv", b'{"a": 1}\n{"a": 2}\n', "is JSON lines, not CSV"),
        ("a.jsonl", encoded(ROWS, ".parquet"), "is a Parquet file, though its name says otherwise"),
        ("a.csv", encoded(ROWS, ".arrow"), "is an Arrow file, though"),
        ("a.parquet", b"<html>403 Forbidden</html>", "is not a Parquet file"),
        ("a.arrow", b"ARR", "is not an Arrow file"),
        ("a.parquet", encoded(ROWS, ".parquet")[:-20], "cut short"),
        ("a.parquet.gz", gzip.compress(encoded(ROWS, ".parquet"), mtime=0), "compressed once more"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        ("a.bin", b"\x00\x01", "no known kind"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0)[:9], "cannot be unpacked"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_one_problem(write: Write, name: str, content: bytes, words: str) -> None:
    path = write("x", b"").with_name(name)
    path.write_bytes(content)
    (problem,) = unreadable(source_of(path), "data.train")
    assert problem.where == "data.train"
    assert str(path) in problem.message
    assert words in problem.message
    assert problem.remedy


@pytest.mark.parametrize(
    ("name", "content"), [("a b.jsonl", gzip.compress(b'{"a": 1}\n', mtime=0)), ("c.jsonl", b'[{"a": 1}]')]
)
def test_a_remedy_that_renames_makes_the_file_readable(write: Write, tmp_path: Path, name: str, content: bytes) -> None:
    (problem,) = unreadable(source_of(write(name, content)), "data.train")
    subprocess.run(shlex.split(problem.remedy), check=True)
    (path,) = tmp_path.iterdir()
    assert values_of(path) == [{"a": 1}]


def test_every_suffix_that_is_named_as_readable_is(write: Write) -> None:
    with pytest.raises(KindError) as caught:
        kind_of(write("a.bin", b"\x00"))
    assert all(suffix in caught.value.valid for suffix in (*SUFFIXES, *COMPRESSIONS))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".txt"])
@pytest.mark.parametrize("packing", [packing for packing in PACK if packing])
def test_a_compressed_file_that_was_cut_short_gives_its_beginning_and_says_where_it_ends(
    write: Write, suffix: str, packing: str
) -> None:
    # Random enough for several blocks, whatever compresses it.
    rows = [{"text": str(pow(7, n, 10**40)) * 5, "tag": "x"} for n in range(6000)]
    path = write(f"rows{suffix}{packing}", rows)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    *good, last = rows_of(path)
    assert len(good) > 0
    expected = [{"text": row["text"]} for row in rows] if suffix == ".txt" else rows
    assert [row.value for row in good] == expected[: len(good)]
    assert isinstance(last.error, LostRows)
    assert "ends before it is complete" in last.error.reason or "Truncated" in last.error.reason
    number = len(good) + 1
    named = f"{path}:{number}" if suffix in (".jsonl", ".txt") else f"{path} row {number}"
    assert where(str(path), kind_of(path), last.place) == named


def test_a_row_group_that_is_damaged_is_told_with_its_place(write: Write) -> None:
    path = write("rows.parquet", [{"text": f"{n} " * 100} for n in range(3000)], batch=1000)
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[second.dictionary_page_offset : second.dictionary_page_offset + 40] = b"\xff" * 40
    path.write_bytes(bytes(data))
    found = rows_of(path, piece_bytes=1)
    lost = found[1000]
    assert len(found) == 1000 + 1 + 1000  # the pieces after it are read as well
    assert isinstance(lost.error, LostRows)
    assert lost.place == 1001
    assert found[1001].place == 2001


@pytest.mark.parametrize("suffix", [".arrow", ".feather"])
def test_an_arrow_file_that_was_cut_short_is_refused(write: Write, suffix: str) -> None:
    path = write("rows" + suffix, [{"text": f"{n} " * 100} for n in range(3000)], batch=1000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"rows.* row \d+: the file is damaged or was cut short"):
        rows_of(path)
