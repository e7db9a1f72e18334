"""Files that cannot be read at all, told before anything is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.data.files import expanded
from launcher.data.read import unreadable
from launcher.data.source import Hub, Source
from tests.data.read.files import source_of

Write = Callable[..., Path]


def test_a_missing_file_is_named_with_its_nearest_neighbours(write: Write, tmp_path: Path) -> None:
    write("zebra.txt", b"x")
    near = write("train.jsonl", b"x")
    (problem,) = unreadable(source_of(tmp_path / "trian.jsonl"), "data.train")
    assert problem.where == "data.train"
    assert "trian.jsonl does not exist" in problem.message
    assert problem.valid.startswith(str(near))


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    (problem,) = unreadable(source_of(tmp_path / "nowhere" / "f.jsonl"), "data.train")
    assert "nor does its folder" in problem.message


@pytest.mark.parametrize("pattern", ["trian-*.jsonl", "**/trian-*.jsonl"])
def test_a_pattern_that_matches_nothing_is_one_problem_that_names_near_files(
    write: Write, tmp_path: Path, pattern: str
) -> None:
    write("zebra.txt", b"x")
    near = write("train-1.jsonl", b"x")
    (problem,) = unreadable(source_of(*map(Path, expanded(str(tmp_path / pattern)))), "data.train")
    assert f"no file matches {tmp_path / pattern}" in problem.message
    assert problem.valid.startswith(str(near))


def test_a_pattern_stands_for_its_files_in_order_of_their_names(write: Write, tmp_path: Path) -> None:
    paths = [write(f"{name}.jsonl", b"{}") for name in "cab"]
    (tmp_path / "d.jsonl").mkdir()
    assert expanded(str(tmp_path / "*.jsonl")) == tuple(str(path) for path in sorted(paths))
    assert expanded(str(paths[0])) == (str(paths[0]),)


def test_a_folder_is_not_a_file_but_its_files_are_offered(write: Write, tmp_path: Path) -> None:
    path = write("a.parquet", b"x")
    (problem,) = unreadable(source_of(tmp_path), "data.train")
    assert "is a folder" in problem.message
    assert problem.valid == str(path)
    assert f"{tmp_path}/*.parquet" in problem.remedy


def test_an_empty_file_is_a_problem(write: Write) -> None:
    (problem,) = unreadable(source_of(write("a.jsonl", b"")), "data.train")
    assert "is empty" in problem.message


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_problem(write: Write) -> None:
    path = write("a.jsonl", b"{}")
    path.chmod(0)
    (problem,) = unreadable(source_of(path), "data.train")
    assert "may not be read" in problem.message


def test_every_file_is_looked_for_but_only_some_are_opened(write: Write, tmp_path: Path) -> None:
    arrays = [write(f"{number}.jsonl", b"[]") for number in range(5)]
    found = unreadable(source_of(*arrays, tmp_path / "none"), "data.train", looked_into=2)
    assert ["JSON array" in problem.message for problem in found] == [True, True, False]
    assert len(unreadable(source_of(*arrays), "data.train")) == 5


def test_a_hub_source_has_no_files_to_look_for() -> None:
    hub = Hub(name="a/b", config=None, split="train", revision=None)
    assert unreadable(Source(name="a/b", hub=hub), "data.train") == []
