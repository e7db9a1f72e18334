from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from launcher.cli.main import main
from launcher.cli.page import page
from launcher.decode import decode
from launcher.plan.build import Request, plan_request
from launcher.runplan import RunPlan

Out = pytest.CaptureFixture[str]


def plan_of(work: Path, *overrides: str, recipe: str = "demo") -> RunPlan:
    return plan_request(Request(recipe=recipe, overrides=overrides, config_dir=None, work_dir=work))


def test_three_mistakes_are_explained_at_once_without_a_traceback(demo: Path, capsys: Out) -> None:
    assert main(["plan", "demo", "zero.stgae=3", "optim.lr=fast", "train.global_batch_size=7"]) == 2
    seen = capsys.readouterr()
    assert "Traceback" not in seen.err
    assert "valid: zero.stage" in seen.err
    assert "optim.lr: 'fast' is not a number" in seen.err
    assert "train.global_batch_size=6 or 8" in seen.err
    assert len(re.findall(r"^\S", seen.err, re.MULTILINE)) == 3


def test_an_unknown_recipe_exits_3(work: Path, capsys: Out) -> None:
    assert main(["plan", "dmeo"]) == 3
    assert "valid: demo" in capsys.readouterr().err


def test_json_is_the_plan_and_nothing_else(demo: Path, work: Path, capsys: Out) -> None:
    assert main(["plan", "demo", "--json", "cluster=devslurm", "train.seed=7"]) == 0
    plan = decode(RunPlan, json.loads(capsys.readouterr().out))
    assert plan.config.train.seed == 7
    assert plan.topology.world_size == 2


def test_options_may_stand_between_overrides(demo: Path, capsys: Out) -> None:
    assert main(["plan", "demo", "train.seed=7", "--json", "optim.lr=0.5", "--runs-root", "out", "data.eval=null"]) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["train"]["seed"], config["optim"]["lr"], config["data"]["eval"]) == (7, 0.5, None)


def test_the_runs_root_is_option_then_environment_then_here(
    demo: Path, work: Path, capsys: Out, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parent(*arguments: str) -> Path:
        assert main(["plan", "demo", "--json", *arguments]) == 0
        return Path(json.loads(capsys.readouterr().out)["run_dir"]).parent

    assert parent() == work / "runs"
    monkeypatch.setenv("LAUNCHER_RUNS_ROOT", "/tmp/env")
    assert parent() == Path("/tmp/env")
    assert parent("--runs-root", "odd it's $(x)") == work / "odd it's $(x)"


def test_cfg_is_the_resolved_config(demo: Path, capsys: Out) -> None:
    assert main(["plan", "demo", "--cfg"]) == 0
    text = capsys.readouterr().out
    assert f"path: {demo}/model" in text
    assert "${" not in text


def test_sbatch_is_the_script(demo: Path, capsys: Out) -> None:
    assert main(["plan", "demo", "--sbatch", "cluster=devslurm"]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash")


def test_there_is_no_script_without_slurm(demo: Path, capsys: Out) -> None:
    assert main(["plan", "demo", "--sbatch"]) == 2
    assert "cluster=slurm" in capsys.readouterr().err


def test_config_dir_is_searched(demo: Path, work: Path, capsys: Out) -> None:
    (work / "own/recipes").mkdir(parents=True)
    (work / "own/recipes/mine.yaml").write_text("defaults: [demo, _self_]\ntrain: {seed: 99}\n")
    assert main(["plan", "mine", "--json", "--config-dir", "own"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["train"]["seed"] == 99


def test_the_page_shows_what_a_person_checks(work: Path, roomy: None) -> None:
    plan = plan_of(work, "cluster.partition=big", recipe="sft_llama3_70b")
    text = page(plan)
    for shown in (
        "8 nodes × 8 ranks = 64 ranks",
        "global 128 = micro 2 × accumulation 1 × 64 ranks",
        "70,553,706,496 parameters",
        "ZeRO stage 3",
        "cosine schedule",
        plan.train_data.sources[0].paths[0],
        "partition           big",
        plan.run_dir,
        plan.fingerprint.config,
    ):
        assert shown in text
    assert "WARNING" not in text
    assert max(map(len, text.splitlines())) < 140


def test_the_page_warns_of_a_plan_that_does_not_fit(work: Path) -> None:
    text = page(plan_of(work, "cluster.gpu_memory_gb=24", recipe="sft_llama3_8b"))
    assert "WARNING" in text
    assert "zero=zero3_offload" in text
