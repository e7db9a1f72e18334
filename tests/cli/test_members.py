"""`launcher ls --sweep`: where the members stand, and which is best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli.main import main
from launcher.publish import append_record
from launcher.rundir import RunDir
from tests.fakes import FakeSlurm

Out = pytest.CaptureFixture[str]
WORDS = ["cluster=devslurm", "cluster.data_job.enabled=false"]


@pytest.fixture
def sweep(demo: Path, slurm: FakeSlurm, capsys: Out) -> dict[str, object]:
    assert main(["submit", "demo", *WORDS, "-m", "optim.lr=0.1,0.2,0.3", "--json"]) == 0
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return told


def runs(sweep: dict[str, object]) -> list[RunDir]:
    return [RunDir(Path(run["run_dir"])) for run in sweep["runs"]]  # type: ignore[attr-defined]


def measured(run: RunDir, **values: float) -> None:
    append_record(run.metrics, {"attempt": 1, **values})


def test_members_are_listed_with_what_they_differ_in_and_one_question_to_the_queue(
    sweep: dict[str, object], slurm: FakeSlurm, capsys: Out
) -> None:
    assert main(["ls", "--sweep", str(sweep["sweep_id"])[:8]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["OVERRIDES", "optim.lr=0.1", "optim.lr=0.2", "optim.lr=0.3"]
    assert all("QUEUED" in line for line in lines[1:])
    assert len(slurm.calls("squeue")) == 1
    assert main(["ls", "--sweep", "last", "--json"]) == 0
    assert [item["job_id"] for item in json.loads(capsys.readouterr().out)] == ["42_0", "42_1", "42_2"]


def test_the_best_by_any_measure_comes_first(sweep: dict[str, object], capsys: Out) -> None:
    first, second, _ = runs(sweep)
    for step, loss, accuracy in ((1, 3.0, 0.2), (2, 2.0, 0.4), (3, 2.5, 0.3)):
        measured(first, step=step, eval_loss=loss, eval_accuracy=accuracy)
    measured(second, step=2, eval_loss=2.2, eval_accuracy=0.9)
    measured(second, step=2, loss=1.5)

    def order(metric: str) -> list[tuple[str, object]]:
        capsys.readouterr()
        assert main(["ls", "--sweep", "last", "--best", metric, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        return [
            (item["overrides"][0][-3:], item["best"] and (item["best"]["value"], item["best"]["step"]))
            for item in found
        ]

    assert order("eval_loss") == [("0.1", (2.0, 2)), ("0.2", (2.2, 2)), ("0.3", None)]
    assert order("eval_accuracy") == [("0.2", (0.9, 2)), ("0.1", (0.4, 2)), ("0.3", None)]
    assert order("loss")[0] == ("0.2", (1.5, 2))
    assert main(["ls", "--sweep", "last", "--best", "eval_los"]) == 3
    assert "eval_accuracy, eval_loss" in capsys.readouterr().err


def test_what_is_no_sweep_is_explained(demo: Path, capsys: Out) -> None:
    assert main(["ls", "--sweep", "nothing"]) == 3
    assert "no such sweep" in capsys.readouterr().err
    assert main(["ls", "--best", "eval_loss"]) == 2
    assert "--sweep ID" in capsys.readouterr().err


def test_a_sweep_is_cancelled_as_a_whole_but_for_what_has_ended(
    sweep: dict[str, object], slurm: FakeSlurm, capsys: Out
) -> None:
    assert main(["cancel", runs(sweep)[1].root.name]) == 0
    assert main(["cancel", "--sweep", "last"]) == 0
    assert "3 of 3 members" in capsys.readouterr().out
    assert slurm.calls("scancel") == ["42_1", "42_2", "42_1", "42_0"]
    slurm.state(None)
    assert main(["cancel", "--sweep", "last"]) == 0
    assert "0 of 3 members" in capsys.readouterr().out
    assert main(["cancel"]) == 2
    assert "--sweep ID" in capsys.readouterr().err


def test_a_sweep_is_a_page_with_a_dot_for_each_member_by_setting(
    sweep: dict[str, object], tmp_path: Path, capsys: Out
) -> None:
    for number, run in enumerate(runs(sweep)[:2]):
        measured(run, step=1, eval_loss=3.0 - number)
        measured(run, step=2, eval_loss=2.5 - number)
    page = tmp_path / "page.html"
    assert main(["report", "--sweep", "last", "--out", str(page), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["metric"], [item["value"] for item in told["runs"]]) == ("eval_loss", [1.5, 2.5])
    text = page.read_text()
    assert text.count("<circle") == 2
    assert text.count("<polyline") == 2
    assert "2 of 3 members" in text
    assert main(["report", "--sweep", "last", "--best", "nothing"]) == 3
    assert main(["report"]) == 2
