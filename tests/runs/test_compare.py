"""Two runs are told apart by what they were told, what they ran with, and what came of them; and a run is repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.main import main
from launcher.errors import NotFoundError, UserError
from launcher.plan.build import Request, plan_request
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.compare import ABSENT, compare
from launcher.runs.freeze import freeze


def frozen(work: Path, *overrides: str) -> RunDir:
    plan = plan_request(Request(recipe="demo", overrides=overrides, config_dir=None, work_dir=work))
    return freeze(plan, ["demo", *overrides])


def told(found: dict[str, list[Any]], section: str) -> dict[str, tuple[Any, Any]]:
    return {each.name: (each.one, each.other) for each in found[section]}


def test_a_run_is_the_same_as_itself(demo: Path, work: Path) -> None:
    run = frozen(work)
    assert not any(compare(run, run).values())


@pytest.mark.slow
def test_what_differs_is_told_by_section(demo: Path, work: Path) -> None:
    one = frozen(work)
    (demo / "train.jsonl").write_text((demo / "train.jsonl").read_text() * 2)
    other = frozen(work, "optim.lr=1e-5", "objective.options.label_smoothing=0.1")
    (other.code / "launcher" / "plain.py").write_text("changed")
    (other.code / "launcher" / "more.py").write_text("new")
    environment = json.loads(other.environment.read_text())
    environment["packages"] |= {"torch": "9.9"}
    other.environment.write_text(json.dumps(environment))
    for run, loss in ((one, 2.5), (other, 1.5)):
        run.metrics.write_text("".join(json.dumps({"step": at, "loss": loss, "attempt": 1}) + "\n" for at in (1, 2)))
    found = compare(one, other)
    config = told(found, "config")
    assert config.keys() == {"optim.lr", "objective.options.label_smoothing"}
    assert config["optim.lr"][1] == 1e-5
    assert config["objective.options.label_smoothing"] == (ABSENT, 0.1)
    assert told(found, "data").keys() == {"data"}
    code = told(found, "code")
    assert code["launcher/more.py"] == (ABSENT, "there")
    assert code["launcher/plain.py"] == ("differs", "differs")
    assert told(found, "environment")["torch"][1] == "9.9"
    assert told(found, "result")["loss"] == (2.5, 1.5)


@pytest.mark.slow
def test_the_command_prints_both_forms(demo: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [frozen(work, f"train.seed={seed}").root for seed in (1, 2)]
    assert main(["diff", *map(str, names)]) == 0
    page = capsys.readouterr().out
    assert "train.seed  1 → 2" in page
    assert "code: the same" in page
    assert main(["diff", *map(str, names), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["config"] == [{"name": "train.seed", "one": 1, "other": 2}]
    assert document["runs"] == [name.name for name in names]


def test_a_folder_that_is_no_run_is_told(demo: Path, work: Path) -> None:
    run = frozen(work)
    with pytest.raises(NotFoundError, match=r"plan\.json"):
        compare(run, RunDir(work))
    run.environment.write_text("{")
    with pytest.raises(UserError, match=r"env\.json.*damaged"):
        compare(run, run)


def test_a_run_is_repeated_with_changes(demo: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = frozen(work, "train.seed=7", "optim.lr=1e-5")
    recipes = work / "recipes"
    recipes.mkdir()
    # Whatever has become of the recipe since.
    (recipes / "demo.yaml").write_text("defaults: [launcher, _self_]\ntrain: {seed: 99}\n")
    again = ["submit", "--from", str(run.root), "optim.lr=2e-5", "--dry-run", "--json"]
    assert main(again) == 0
    plan = json.loads(capsys.readouterr().out)
    old = RunPlan.load(run.plan)
    assert (plan["config"]["train"]["seed"], plan["config"]["optim"]["lr"]) == (7, 2e-5)
    assert plan["recipe"] == "demo"
    assert plan["run_id"] != old.run_id
    assert Path(plan["run_dir"]).parent == run.root.parent
    assert main(["submit", "--from", str(run.root), "--dry-run", "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same["config"] == json.loads(run.plan.read_text())["config"]
    assert main(["submit", "--from", str(run.root), "optim.lrr=1", "--dry-run"]) == 2
    assert "optim.lr" in capsys.readouterr().err
    assert main(["submit"]) == 2
    assert "--from RUN" in capsys.readouterr().err
