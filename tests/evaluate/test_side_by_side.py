"""Results are read from the harness's answer, and compared only where they were asked alike."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.main import main
from launcher.evaluate.harness import task_results
from launcher.evaluate.request import Request, Results
from launcher.evaluate.side_by_side import evaluations, side_by_side
from launcher.track.wandb_results import numbers
from tests.fakes import MadeRun

ANSWER: dict[str, Any] = {
    "results": {
        "colours": {
            "alias": "colours",
            "acc,none": 0.5,
            "acc_stderr,none": 0.05,
            "exact_match,strict": 0.25,
            "exact_match_stderr,strict": "N/A",
            "perplexity,none": math.nan,
            "perplexity_stderr,none": 1.0,
        }
    },
    "versions": {"colours": 1.0},
    "n-shot": {"colours": 2},
    "n-samples": {"colours": {"original": 200, "effective": 100}},
    "higher_is_better": {"colours": {"acc": True}},
}


def results(value: float = 0.5, **changes: Any) -> Results:
    answer = json.loads(json.dumps(ANSWER))
    answer["results"]["colours"]["acc,none"] = value
    request = Request(
        run_dir="/runs/a",
        name="colours",
        tasks=["colours"],
        task_files="f",
        offline=True,
        step=None,
        limit=None,
        few_shot=None,
        chat=False,
        batch_size=8,
        gpus=0,
        after=None,
    )
    made = Results(
        run_id="a",
        step=5,
        checkpoint="c",
        dtype="bf16",
        request=request,
        harness="h 1",
        time=1.0,
        seconds=1.0,
        tasks=task_results(answer),
    )
    return replace(made, **changes)


def test_measures_filters_errors_and_counts_are_read_from_the_answer() -> None:
    (task,) = task_results(ANSWER).values()
    assert (task.version, task.few_shot, task.samples) == ("1.0", 2, 100)
    assert list(task.scores) == ["acc", "exact_match (strict)", "perplexity"]
    assert (task.scores["acc"].value, task.scores["acc"].stderr) == (0.5, 0.05)
    assert task.scores["acc"].higher_is_better is True
    assert task.scores["exact_match (strict)"].stderr is None
    assert task.scores["perplexity"].value is None


def test_wandb_gets_every_number_and_nothing_else() -> None:
    assert numbers(results()) == {
        "bench/colours/acc": 0.5,
        "bench/colours/acc_stderr": 0.05,
        "bench/colours/exact_match (strict)": 0.25,
        "bench/colours/perplexity_stderr": 1.0,
    }


def test_two_runs_stand_side_by_side_with_the_error_of_their_difference() -> None:
    row = side_by_side([[results(0.5)], [results(0.625)]])[0]
    assert (row.task, row.measure) == ("colours", "acc")
    assert row.difference == pytest.approx(0.125)
    assert row.stderr == pytest.approx(0.05 * math.sqrt(2))
    assert row.unlike == []


def test_of_several_evaluations_of_a_task_the_newest_counts() -> None:
    row = side_by_side([[results(0.5), results(0.75, time=2.0)]])[0]
    assert row.found[0] is not None
    assert row.found[0].score.value == 0.75


def test_what_was_not_asked_alike_is_told() -> None:
    other = results(0.5)
    other = replace(other, request=replace(other.request, task_files="g", chat=True), harness="h 2")
    row = side_by_side([[results()], [other]])[0]
    assert row.unlike == ["task files: f and g", "chat template: False and True", "harness: h 1 and h 2"]


def test_a_task_that_only_one_run_was_asked_has_no_difference() -> None:
    rows = side_by_side([[results()], [replace(results(), tasks={})]])
    assert all(row.found[1] is None and row.difference is None for row in rows)


def write(made: MadeRun, found: Results) -> None:
    folder = made.run.evaluation(found.request.name)
    folder.root.mkdir(parents=True)
    found.write(folder)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    assert evaluations(made.run) == []
    write(made, results())
    made.run.evaluation("under-way").root.mkdir()
    assert evaluations(made.run) == [results()]


def test_the_verb_prints_both_runs_and_the_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("one", 0.5), ("two", 0.625)):
        write(MadeRun(tmp_path, name), results(value))
    root = ["--runs-root", str(tmp_path)]
    assert main([*root, "eval", "one", "two"]) == 0
    heading, line, *_ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["TASK", "MEASURE", "one", "two", "DIFFERENCE"]
    assert " ".join(line.split()) == "colours acc 0.5000 ± 0.0500 0.6250 ± 0.0500 +0.1250 ± 0.0707"
    assert main([*root, "eval", "two", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == ["two"]
    assert document["rows"][0]["values"][0]["value"] == 0.625


def test_a_run_without_results_says_how_to_get_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MadeRun(tmp_path, "one")
    assert main(["--runs-root", str(tmp_path), "eval", "one"]) == 3
    assert "--tasks" in capsys.readouterr().err
    assert main(["--runs-root", str(tmp_path), "eval", "one", "--limit", "3"]) == 2
    assert "add --tasks" in capsys.readouterr().err
