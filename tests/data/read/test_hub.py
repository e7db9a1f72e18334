"""Data sets of the hub: the library's cached files are what is read, and its failures are explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.data.read import hub as hub_module
from launcher.data.read import pieces, read, resolved
from launcher.data.source import Hub, Source
from launcher.errors import UserError

Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set with two splits, and a cache of its own for it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    made = tmp_path / "set"
    made.mkdir()
    for split, count in (("train", 30), ("test", 5)):
        rows = "".join(json.dumps({"text": f"{split} {number}"}) + "\n" for number in range(count))
        (made / f"{split}.jsonl").write_text(rows)
    return made


def source(name: str | Path, split: str = "train") -> Source:
    return Source(name=str(name), hub=Hub(name=str(name), config=None, split=split, revision=None))


@pytest.mark.parametrize(("split", "count"), [("train", 30), ("test", 5)])
def test_a_data_set_is_read_from_the_cache(folder: Path, split: str, count: int) -> None:
    found = resolved(source(folder, split))
    assert all(path.endswith(".arrow") for path in found.paths)
    rows = [row.value for piece in pieces([found], 100) for row in read(piece, found)]
    assert rows == [{"text": f"{split} {number}"} for number in range(count)]
    assert resolved(found) is found


def test_a_source_of_files_stays_as_it_is() -> None:
    files = Source(name="a", paths=("a.jsonl",))
    assert resolved(files) is files


def test_a_split_that_is_not_there_is_named_with_those_that_are(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        resolved(source(folder, "validation"))
    (problem,) = caught.value.problems
    assert problem.where == f"hub data set {folder}"
    assert all(name in problem.message for name in ("validation", "train", "test"))


def test_a_part_of_a_split_is_refused_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_load", None)
    with pytest.raises(UserError, match="part of a split"):
        resolved(source("owner/name", "train[:10%]"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("Couldn't reach " + "the Hub\n" * 99), "where there is a network"),
        (FileNotFoundError("Dataset 'owner/name' doesn't exist"), "check the name"),
        (ValueError("BuilderConfig 'x' not found. Available: ['main']"), "subset"),
        (RuntimeError("Dataset scripts are no longer supported"), "check"),
    ],
)
def test_what_the_library_raises_is_one_problem(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def fail(hub: Hub) -> None:
        raise error

    monkeypatch.setattr(hub_module, "_load", fail)
    with pytest.raises(UserError) as caught:
        resolved(source("owner/name"))
    (problem,) = caught.value.problems
    assert "\n" not in problem.message
    assert problem.message.startswith(str(error).split("\n")[0])
    assert len(problem.message) <= 301
    assert words in problem.remedy
