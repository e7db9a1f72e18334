"""What the login machine says of a file before anything is submitted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.data.check import check_head, check_template
from launcher.data.source import CleanConfig, Fix, Hub, Source
from launcher.errors import Problem
from tests.data.conftest import CLEAN
from tests.data.read.files import encoded

WriteRows = Callable[..., Path]


def chat_row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def check(*paths: Path, clean: CleanConfig = CLEAN, max_bytes: int = 1 << 20, **changes: Any) -> list[Problem]:
    source = Source(name="rows", paths=tuple(str(path) for path in paths), **changes)
    return check_head(source, "data.train", clean, max_bytes)


def test_a_good_file_has_no_problem(write_rows: WriteRows) -> None:
    assert check(write_rows([chat_row("q", "a"), "", {"prompt": "x", "completion": "y"}])) == []


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json", "a.csv", "a.parquet", "a.arrow"])
def test_the_head_of_every_kind_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    rows = [{"question": f"q{n}", "answer": "a"} for n in range(9)]
    data = encoded(rows, path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    assert check(path, columns={"prompt": "question", "completion": "answer"}) == []
    (problem,) = check(path)
    assert '"question", "answer"' in problem.message
    assert problem.where == (f"{path}:1" if "jsonl" in name else f"{path} row 1")


def test_a_file_that_cannot_be_read_is_told_before_its_rows(write_rows: WriteRows, tmp_path: Path) -> None:
    (problem,) = check(write_rows(["{broken"]), tmp_path / "none.jsonl")
    assert (problem.where, "none.jsonl does not exist" in problem.message) == ("data.train", True)


def test_of_many_files_only_the_first_are_read(write_rows: WriteRows) -> None:
    paths = [write_rows(["{broken"], f"{number}.jsonl") for number in range(9)]
    assert [problem.where for problem in check(*paths)] == [f"{path}:1" for path in paths[:3]]


def test_a_hub_source_is_not_looked_at(tmp_path: Path) -> None:
    source = Source(name="a/b", hub=Hub(name="a/b", config=None, split="train", revision=None))
    assert check_head(source, "data.train", CLEAN) == []
    assert check_template(source, tmp_path, "data.chat_template") == []


def test_broken_lines_are_named_up_to_five(write_rows: WriteRows) -> None:
    path = write_rows([chat_row("q", "a"), *["{broken"] * 7])
    assert [problem.where for problem in check(path)] == [f"{path}:{number}" for number in range(2, 7)]


def test_rows_of_an_unknown_format_are_one_problem(write_rows: WriteRows) -> None:
    (problem,) = check(write_rows([{"question": "q", "answer": "a"}] * 5))
    assert '"question", "answer"' in problem.message
    assert "prompt_completion: " in problem.valid


DROP = replace(CLEAN, broken=Fix.drop, most_broken=0.5)


@pytest.mark.parametrize(("broken", "told"), [(0, False), (2, False), (3, True), (9, True)])
def test_broken_rows_that_are_dropped_are_a_problem_only_if_they_are_too_many(
    write_rows: WriteRows, broken: int, told: bool
) -> None:
    path = write_rows([chat_row("q", "a"), *["{broken"] * broken, chat_row("q", "a")])
    found = check(path, clean=DROP)
    assert [problem.where for problem in found] == ([f"{path}:2"] if told else [])
    if told:
        assert f"broken like {broken - 1} more of the first {broken + 2}" in found[0].message
        assert "data.clean.most_broken=0.5" in found[0].message


def test_a_file_that_ends_early_is_told_though_broken_rows_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([chat_row("q", "a")] * 9)[:-5])
    (problem,) = check(path, clean=DROP)
    assert problem.where == f"{path} row 9"
    assert "nothing after it can be read" in problem.message


def test_only_the_head_is_read(write_rows: WriteRows) -> None:
    path = write_rows([chat_row("q", "a"), "{broken", "{broken"])
    first = len(path.read_bytes().split(b"\n")[0]) + 1
    assert check(path, max_bytes=first) == []
    assert len(check(path, max_bytes=first + 3)) == 1
    assert check(path, limit=1) == []
    assert len(check(path, limit=2)) == 1


@pytest.mark.parametrize(
    ("config", "template", "told"), [({}, None, True), ({"chat_template": "x"}, None, False), ({}, "x", False)]
)
def test_messages_for_a_tokenizer_without_a_template_are_told(
    tmp_path: Path, config: dict[str, str], template: str | None, told: bool
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (tmp_path / "chat_template.jinja").write_text(template)
    found = check_template(Source(name="rows", paths=(str(rows),)), tmp_path, "data.chat_template")
    assert [problem.where for problem in found] == (["data.chat_template"] if told else [])


def test_prompts_and_completions_need_no_template(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    assert check_template(Source(name="rows", paths=(str(rows),)), tmp_path, "data.chat_template") == []


@pytest.mark.parametrize("suffix", [".json", ".parquet", ".arrow"])
def test_rows_of_every_kind_tell_whether_they_need_a_template(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(encoded([chat_row("q", "a")], suffix))
    (problem,) = check_template(Source(name="rows", paths=(str(path),)), tmp_path, "data.chat_template")
    assert "are messages" in problem.message
