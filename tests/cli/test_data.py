"""`launcher data …` as typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.main import main
from tests.workbench import Bench, make_bench

Out = pytest.CaptureFixture[str]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A model directory with a real tokenizer, and 100 rows of which one is there twice."""
    monkeypatch.chdir(tmp_path)
    made = make_bench(tmp_path)
    with (tmp_path / "train.jsonl").open("r+") as file:
        first = file.readline()
        file.seek(0, 2)
        file.write(first)
    return made


def told(capsys: Out, *words: str) -> Any:
    capsys.readouterr()
    code = main([*words, "--json"])
    seen = capsys.readouterr()
    assert code == 0, seen.err
    return json.loads(seen.out)


@pytest.mark.slow
def test_a_check_counts_what_came_in_and_what_became_of_it(bench: Bench, capsys: Out, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    document = told(capsys, "data", "check", *bench.base, "--html", str(page))
    train, held_out = document["sets"]
    assert (train["rows_in"], train["rows"], train["rejected"]) == (101, 100, {"duplicate": 1})
    assert (held_out["name"], held_out["rows"]) == ("eval", 10)
    assert document["steps_per_epoch"] == 13
    assert page.read_text().startswith("<!doctype html>")
    assert main(["data", "check", *bench.base]) == 0
    assert "101 rows read, 1 rejected, 100 stored" in capsys.readouterr().out


def test_what_is_shown_is_what_is_trained_on(bench: Bench, capsys: Out) -> None:
    rows = told(capsys, "data", "inspect", *bench.base, "--n", "5")
    assert len(rows) == 5
    first = rows[0]["stretches"]
    assert [part["trained"] for part in first] == [False, True]
    assert first[1]["text"].startswith("alpha 0")


def test_prepared_data_is_found_again(bench: Bench, capsys: Out) -> None:
    once = told(capsys, "data", "prepare", *bench.base)
    assert told(capsys, "data", "prepare", *bench.base) == once
    assert (Path(once["train"]["folder"]) / "meta.json").is_file()


def test_a_chat_template_of_the_users_own_is_used(bench: Bench, capsys: Out) -> None:
    template = bench.root / "mine.jinja"
    template.write_text("{% for m in messages %}<|{{ m.role }}|>mine {{ m.content }}<|end|>{% endfor %}")
    (row,) = told(capsys, "data", "inspect", *bench.base, f"data.chat_template={template}", "--n", "1")
    assert "mine row 0" in row["stretches"][0]["text"]


def test_held_out_rows_among_the_training_rows_stop_a_check(bench: Bench, capsys: Out) -> None:
    base = [word for word in bench.base if not word.startswith("data.eval=")]
    assert main(["data", "check", *base, f"data.eval={bench.root / 'train.jsonl'}"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("chek",), "check"),
        (("check", "demo", "--n", "3"), "`data inspect` does"),
        (("prepare", "demo", "--html", "x"), "`data check` does"),
        (("inspect", "demo", "--n", "0"), "1 or more"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_read(words: tuple[str, ...], said: str, capsys: Out) -> None:
    arguments = words if len(words) > 1 else (*words, "demo")
    assert main(["data", *arguments]) == 2
    assert said in capsys.readouterr().err
