"""What is published is whole, on a disk that is full as well."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.publish import append_record, publish_text, read_records


@contextlib.contextmanager
def cut_at_100_bytes() -> Iterator[None]:
    """Files grow to 100 bytes: a write across that is cut short, as on a full disk.

    No longer than the write: pytest itself writes as soon as a test is over, perhaps to a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_record_that_was_cut_short_is_told_of(tmp_path: Path) -> None:
    with cut_at_100_bytes(), pytest.raises(OSError, match="No space"):
        append_record(tmp_path / "a.jsonl", {"text": "x" * 200})
    assert (tmp_path / "a.jsonl").stat().st_size == 100


def test_a_record_after_half_a_line_is_not_lost_with_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_record(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2')
    append_record(path, {"a": 3})
    append_record(path, {"a": 4})
    assert read_records(path) == [{"a": 1}, {"a": 3}, {"a": 4}]
    assert json.loads(path.read_text().splitlines()[-1]) == {"a": 4}


def test_a_file_that_cannot_be_published_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    publish_text(tmp_path / "a", "old")
    with cut_at_100_bytes(), pytest.raises(OSError, match="File too large"):
        publish_text(tmp_path / "a", "x" * 200)
    assert (tmp_path / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
