"""`launcher submit … --trials` and `--more`: members that a sampler draws, and more of them in the same sweep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.main import main
from launcher.rundir import RunDir, SweepDir
from launcher.runplan import RunPlan
from launcher.runs.job import read_job
from launcher.runs.outcome import Ending
from tests.fakes import FakeSlurm, MadeRun

Out = pytest.CaptureFixture[str]
WORDS = ["demo", "cluster=devslurm", "cluster.data_job.enabled=false"]
DRAWN = [*WORDS, "-m", "optim.lr=tag(log,interval(1e-6,1e-2))", "train.seed=1,2", "--sampler", "random"]


def submit(capsys: Out, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["submit", *words, "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def refused(capsys: Out, *words: str) -> str:
    capsys.readouterr()
    assert main(["submit", *words]) == 2
    return capsys.readouterr().err


def record(told: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(told["sweep_dir"]) / "sweep.json").read_text())
    return document


def finish(told: dict[str, Any], *losses: float) -> None:
    for run, loss in zip(told["runs"], losses, strict=True):
        made = MadeRun.of(RunDir(Path(run["run_dir"])))
        made.begin(step=0)
        made.evaluation(1, loss)
        made.end(Ending.completed)


def script(told: dict[str, Any], batch: int) -> str:
    folder = SweepDir(Path(told["sweep_dir"])) if batch == 1 else SweepDir(Path(told["sweep_dir"])).more(batch)
    (path,) = folder.root.glob("arrays/1/42_*.sh")
    return path.read_text()


def test_drawn_members_are_one_array_and_more_of_them_belong_to_the_same_sweep(
    demo: Path, slurm: FakeSlurm, capsys: Out
) -> None:
    first = submit(capsys, *DRAWN, "--trials", "3")
    finish(first, 3.0, 2.0, 2.5)
    more = submit(capsys, "--more", "2", "--sweep", "last")
    assert more["sweep_id"] == first["sweep_id"]
    assert [run["run_id"] for run in [*first["runs"], *more["runs"]]] == [
        f"{first['sweep_id']}-{number:04d}" for number in range(5)
    ]
    assert [member["overrides"] for member in record(first)["members"]] == [
        run["overrides"] for run in [*first["runs"], *more["runs"]]
    ]
    assert record(first)["sampling"]["drawn"] == [3, 2]
    assert "--array=0-2%3" in script(first, 1)
    assert "--array=0-1%2" in script(first, 2)
    run = RunDir(Path(more["runs"][1]["run_dir"]))
    assert run.code.resolve() == SweepDir(Path(first["sweep_dir"])).more(2).code.resolve()
    assert (run.code / "launcher/node/entry.py").is_file()
    plans = [RunPlan.load(RunDir(Path(one["run_dir"])).plan) for one in (first["runs"][0], more["runs"][0])]
    assert plans[0].config.runs_root == plans[1].config.runs_root
    capsys.readouterr()
    assert main(["ls", "--sweep", "last", "--best", "eval_loss", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [item["best"] and item["best"]["value"] for item in listed] == [2.0, 2.5, 3.0, None, None]
    # All five, with nothing drawn twice, are what a single sweep of five would have been.
    assert record(first)["members"] == [
        {**member, "run_id": f"{first['sweep_id']}-{number:04d}"}
        for number, member in enumerate(record(submit(capsys, *DRAWN, "--trials", "5"))["members"])
    ]


def test_more_members_are_drawn_from_what_the_others_came_to(demo: Path, slurm: FakeSlurm, capsys: Out) -> None:
    drawn = [*DRAWN[:-2], "--trials", "11"]
    losses = [2.0 + number / 10 for number in range(11)]
    seen = []
    for order in (losses, losses[::-1]):
        finish(submit(capsys, *drawn), *order)
        assert main(["submit", "--more", "2", "--sweep", "last"]) == 0
        told = capsys.readouterr()
        assert "11 measured, 0 under way, 0 that tell nothing" in told.out
        assert "begins to learn" not in told.err
        assert main(["ls", "--sweep", "last", "--json"]) == 0
        seen.append([item["overrides"] for item in json.loads(capsys.readouterr().out)])
    first, second = seen
    assert first[:11] == second[:11]
    assert first[11:] != second[11:]


def test_a_limit_holds_for_old_and_new_members_together(demo: Path, slurm: FakeSlurm, capsys: Out) -> None:
    first = submit(capsys, *DRAWN, "--trials", "2", "--at-once", "1")
    submit(capsys, "--more", "2", "--sweep", "last")
    assert "--array=0-1%1" in script(first, 2)
    assert "--dependency=afterany:42" in script(first, 2)
    slurm.state(None)
    submit(capsys, "--more", "2", "--sweep", "last")
    assert "--dependency" not in script(first, 3)


def test_another_sampler_and_measure_may_go_on(demo: Path, slurm: FakeSlurm, capsys: Out) -> None:
    first = submit(capsys, *DRAWN, "--trials", "2")
    submit(capsys, "--more", "2", "--sweep", "last", "--sampler", "tpe", "--best", "loss", "--sample-seed", "4")
    assert record(first)["sampling"]["how"] == {"sampler": "tpe", "best": "loss", "seed": 4, "startup": 10}
    # Nothing is known yet, which is no reason to refuse but one to say so.
    capsys.readouterr()
    assert main(["submit", "--more", "2", "--sweep", "last"]) == 0
    assert "tpe begins to learn at 10 measured" in capsys.readouterr().err


def test_a_refused_array_leaves_the_sweep_as_it_was(demo: Path, slurm: FakeSlurm, capsys: Out) -> None:
    first = submit(capsys, *DRAWN, "--trials", "2")
    before = record(first)
    slurm.refuse_after(1, "sbatch: error: Batch job submission failed: Invalid qos specification")
    assert main(["submit", "--more", "2", "--sweep", "last"]) == 4
    assert record(first) == before
    assert sorted(path.name for path in Path(first["runs"][0]["run_dir"]).parent.iterdir()) == [
        ".sweeps",
        *(run["run_id"] for run in first["runs"]),
    ]
    assert list((Path(first["sweep_dir"]) / "more").iterdir()) == []


def test_of_two_who_add_members_at_once_one_is_told_to_try_again(demo: Path, slurm: FakeSlurm, capsys: Out) -> None:
    first = submit(capsys, *DRAWN, "--trials", "2")
    SweepDir(Path(first["sweep_dir"])).more(2).root.mkdir(parents=True)
    assert "try again" in refused(capsys, "--more", "2", "--sweep", "last")
    assert len(record(first)["members"]) == 2
    assert len(slurm.calls("sbatch")) == 1


def test_a_dry_run_shows_members_and_changes_nothing(demo: Path, slurm: FakeSlurm, capsys: Out) -> None:
    first = submit(capsys, *DRAWN, "--trials", "2")
    before = record(first)
    assert main(["submit", "--more", "2", "--sweep", "last", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "Drawn from 0 measured, 2 under way" in told
    assert f"{first['sweep_id']}-0003  optim.lr=" in told
    assert record(first) == before


def test_new_members_that_are_not_comparable_are_told_of(demo: Path, work: Path, slurm: FakeSlurm, capsys: Out) -> None:
    (work / "recipes").mkdir()
    recipe = work / "recipes" / "mine.yaml"
    recipe.write_text("defaults: [demo, _self_]\ntrain: {max_steps: 5}\n")
    submit(capsys, "mine", *DRAWN[1:], "--trials", "2")
    words = ("--more", "1", "--sweep", "last", "--strict", "--dry-run")
    assert "otherwise" not in refused(capsys, *words)
    recipe.write_text("defaults: [demo, _self_]\ntrain: {max_steps: 6}\n")
    assert "otherwise by now (train.max_steps 5 → 6" in refused(capsys, *words)


def test_a_sweep_may_be_added_to_from_elsewhere_and_after_members_were_removed(
    demo: Path, work: Path, tmp_path: Path, slurm: FakeSlurm, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit(capsys, *DRAWN, "data.train=../demo/train.jsonl", "--trials", "2")
    shutil.rmtree(first["runs"][0]["run_dir"])
    root = Path(first["runs"][0]["run_dir"]).parent
    monkeypatch.chdir(tmp_path)
    assert "otherwise" not in refused(capsys, "--more", "1", "--sweep", "last", "--runs-root", str(root), "--strict")
    told = submit(capsys, "--more", "1", "--sweep", "last", "--runs-root", str(root))
    run = RunDir(Path(told["runs"][0]["run_dir"]))
    assert run.root == root / f"{first['sweep_id']}-0002"
    job = read_job(run)
    assert job is not None
    assert job.array == str(SweepDir(Path(first["sweep_dir"])).more(2).array(1).root)


def test_half_a_sampled_sweep_is_explained(demo: Path, slurm: FakeSlurm, capsys: Out) -> None:
    submit(capsys, *WORDS, "-m", "train.seed=1,2")
    assert "--trials N" in refused(capsys, *WORDS, "-m", "optim.lr=interval(1,2)")
    assert "each combination" in refused(capsys, "--more", "2", "--sweep", "last")
    assert "add --trials N" in refused(capsys, *WORDS, "-m", "train.seed=1,2", "--sampler", "tpe")
    assert "tpe, gp, qmc, random" in refused(capsys, *DRAWN[:-1], "tpee", "--trials", "2")
    assert "--sample-seed: -1" in refused(capsys, *DRAWN, "--trials", "2", "--sample-seed", "-1")
    assert "out of range" in refused(capsys, *DRAWN, "--trials", "0")
    assert "which sweep" in refused(capsys, "--more", "2")
    assert "leave it out" in refused(capsys, *WORDS, "--trials", "2")
    assert "--more N" in refused(capsys, *WORDS, "--sweep", "last")
    assert "no more of what to run" in refused(capsys, "--more", "2", "--sweep", "last", *WORDS)
    assert main(["submit", "--more", "2", "--sweep", "nothing"]) == 3
    assert len(slurm.calls("sbatch")) == 1


def test_a_users_own_conf_says_how_members_are_drawn(demo: Path, work: Path, slurm: FakeSlurm, capsys: Out) -> None:
    (work / "conf").mkdir()
    (work / "conf" / "sweep.yaml").write_text("sampler: qmc\nbest: loss\nseed: 3\nstartup: 4\n")
    told = submit(capsys, *DRAWN[:-2], "--trials", "2")
    assert record(told)["sampling"]["how"] == {"sampler": "qmc", "best": "loss", "seed": 3, "startup": 4}
    (work / "conf" / "sweep.yaml").write_text("sampler: qmc\nbest: loss\nseed: 3\nstartup: 0\n")
    assert "conf/sweep.yaml: startup" in refused(capsys, *DRAWN[:-2], "--trials", "2")
