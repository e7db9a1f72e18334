"""What the login machine says of a file before anything is submitted."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.data.check import check_head, check_template
from launcher.data.source import Source
from launcher.errors import Problem

WriteRows = Callable[..., Path]


def chat_row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def check(path: Path, **changes: Any) -> list[Problem]:
    max_bytes = changes.pop("max_bytes", 1 << 20)
    return check_head(Source(name="rows", paths=(str(path),), **changes), "data.train", max_bytes)


def test_a_good_file_has_no_problem(write_rows: WriteRows) -> None:
    assert check(write_rows([chat_row("q", "a"), "", {"prompt": "x", "completion": "y"}])) == []


def test_a_missing_file_is_named_with_its_nearest_neighbours(write_rows: WriteRows, tmp_path: Path) -> None:
    write_rows([], "zebra.txt")
    near = write_rows([], "train.jsonl")
    (problem,) = check(tmp_path / "trian.jsonl")
    assert problem.where == "data.train"
    assert "trian.jsonl does not exist" in problem.message
    assert problem.valid.startswith(str(near))


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    (problem,) = check(tmp_path / "nowhere" / "f.jsonl")
    assert "nor does its folder" in problem.message


def test_a_folder_is_not_a_file_but_its_files_are_offered(write_rows: WriteRows, tmp_path: Path) -> None:
    path = write_rows([], "a.jsonl")
    (problem,) = check(tmp_path)
    assert "is a folder" in problem.message
    assert problem.valid == str(path)


def test_an_empty_file_is_a_problem(write_rows: WriteRows) -> None:
    (problem,) = check(write_rows([]))
    assert "is empty" in problem.message


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_problem(write_rows: WriteRows) -> None:
    path = write_rows([chat_row("q", "a")])
    path.chmod(0)
    (problem,) = check(path)
    assert "may not be read" in problem.message


def test_other_kinds_of_file_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"{}"))
    (tmp_path / "b.json").write_text('[\n{"messages": []}]')
    assert "gzip" in check(tmp_path / "a.gz")[0].message
    assert "one JSON array" in check(tmp_path / "b.json")[0].message
    assert check(tmp_path / "b.json")[0].remedy.startswith("jq -c")


def test_broken_lines_are_named_up_to_five(write_rows: WriteRows) -> None:
    path = write_rows([chat_row("q", "a"), *["{broken"] * 7])
    assert [problem.where for problem in check(path)] == [f"{path}:{number}" for number in range(2, 7)]


def test_rows_of_an_unknown_format_are_one_problem(write_rows: WriteRows) -> None:
    (problem,) = check(write_rows([{"question": "q", "answer": "a"}] * 5))
    assert '"question", "answer"' in problem.message
    assert "prompt_completion: " in problem.valid


def test_only_the_head_is_read(write_rows: WriteRows) -> None:
    path = write_rows([chat_row("q", "a"), "{broken", "{broken"])
    first = len(path.read_bytes().split(b"\n")[0]) + 1
    assert check(path, max_bytes=first) == []
    assert check(path, max_bytes=first + 3) == []  # a line cut by the limit is not judged
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
