"""What is likely wrong with a run is told before it is queued, and every shipped recipe is free of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cli.main import main
from launcher.config.search import shipped
from launcher.errors import Problem
from launcher.plan.build import Request, plan_request
from launcher.plan.prepared import Prepared
from launcher.plan.room import Room, room_at
from launcher.plan.warnings import Looked, warnings
from launcher.runplan import RunPlan

LONG = ["train.epochs=null", "train.max_steps=20000"]
Out = pytest.CaptureFixture[str]


def planned(work: Path, *overrides: str, recipe: str = "sft_llama3_8b") -> RunPlan:
    return plan_request(Request(recipe=recipe, overrides=overrides, config_dir=None, work_dir=work))


def places(found: list[Problem]) -> list[str]:
    return [problem.where for problem in found]


def looked_at(work: Path, *overrides: str, room: Room | None = None, data: Prepared | None = None) -> list[Problem]:
    plan = planned(work, *overrides)
    looked = Looked(
        config=plan.config,
        topology=plan.topology,
        memory=plan.memory,
        lead=plan.lead,
        expected=plan.expected,
        data=data,
        room=room,
    )
    return warnings(looked)


@pytest.mark.parametrize("recipe", sorted(file.stem for file in shipped("recipes").glob("*.yaml")))
def test_a_shipped_recipe_has_no_warnings(recipe: str, demo: Path, work: Path, roomy: None) -> None:
    assert planned(work, recipe=recipe).warnings == []


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        (["optim.lr=1e-3"], "optim.lr"),
        (["optim.lr=1e-9"], "optim.lr"),
        (["optim=lion", "optim.lr=3e-4"], "optim.lr"),
        (["adapter=lora", "optim.lr=1e-2"], "optim.lr"),
        (["adapter=lora", "optim.lr=1e-7"], "optim.lr"),
        (["schedule.warmup_ratio=0.6"], "schedule.warmup_ratio"),
        (["schedule=wsd", "schedule.warmup_ratio=0.3", "schedule.decay_ratio=0.8"], "schedule.warmup_ratio"),
        (["train.global_batch_size=8192", "cluster.nodes=64"], "train.global_batch_size"),
        (["train.epochs=null", "train.max_steps=150"], "checkpoint.every_steps"),
        (["train.epochs=null", "train.max_steps=300", "train.eval_every=301"], "train.eval_every"),
        ([*LONG, "train.stop_at=150"], "checkpoint.every_steps"),
        (["cluster.gpu_type=t4", "precision=fp16"], "cluster.gpu_memory_gb"),
        (["model.attention=flash_attention_2", "precision=fp32", "cluster.gpu_memory_gb=200"], "model.attention"),
        (["cluster.gpu_memory_gb=24"], "memory"),
        (["cluster.mem_gb_per_node=100"], "cluster.mem_gb_per_node"),
        (["cluster.signal_lead_s=60"], "cluster.signal_lead_s"),
        (["watchdog.step_s=2"], "watchdog.step_s"),
        (["checkpoint.asynchronous=false", "watchdog.save_s=200"], "watchdog.save_s"),
        ([*LONG], "cluster.time_min"),
        (["cluster.data_job.enabled=false"], "cluster.data_job.enabled"),
    ],
    ids=str,
)
def test_what_is_likely_wrong_is_told(work: Path, roomy: None, overrides: list[str], where: str) -> None:
    found = planned(work, *overrides).warnings
    assert places(found) == [where]
    assert found[0].valid or found[0].remedy


@pytest.mark.parametrize(
    "overrides",
    [
        ["optim.lr=6e-4"],
        ["model.init=random", "optim.lr=2e-3"],
        ["adapter=lora", "optim.lr=2e-3"],
        ["schedule.warmup_ratio=0.5"],
        ["train.epochs=null", "train.max_steps=200"],
        ["train.epochs=null", "train.max_steps=150", "checkpoint.every_steps=null"],
        ["data.eval=null"],
        ["cluster.gpu_type=h100"],
        ["cluster.gpu_type=mi300x", "model.attention=flash_attention_2"],
        ["cluster.gpu_type=v100", "cluster.gpu_memory_gb=32", "precision=fp16", "cluster.nodes=8"],
        [*LONG, "cluster.time_min=6000"],
        [*LONG, "cluster=local", "cluster.gpus_per_node=8"],
    ],
    ids=str,
)
def test_what_may_well_be_meant_is_not(work: Path, roomy: None, overrides: list[str]) -> None:
    assert planned(work, *overrides).warnings == []


def test_an_old_gpu_lacks_number_format_and_kernels(work: Path, roomy: None) -> None:
    words = ["cluster.gpu_type=V100", "cluster.gpu_memory_gb=32", "model.attention=flash_attention_2"]
    found = planned(work, *words, "cluster.nodes=8").warnings
    assert places(found) == ["precision", "model.attention"]


def test_a_run_longer_than_its_job_is_told_how_many_it_takes(work: Path, roomy: None) -> None:
    plan = planned(work, *LONG)
    assert plan.expected.jobs == 2
    assert "so it takes 2 jobs" in plan.warnings[0].message
    stopped = planned(work, *LONG, "retry.time_limit=stop").warnings[0]
    assert "retry.time_limit=stop ends it there" in stopped.message


def test_checkpoints_further_apart_than_a_job_is_long_are_told(work: Path, roomy: None) -> None:
    found = planned(work, *LONG, "cluster.time_min=20", "checkpoint.every_steps=1000").warnings
    assert "checkpoint.every_steps" in places(found)


@pytest.mark.parametrize(
    ("room", "words"),
    [
        (Room(free_gb=449, free_files=10**6), ["4 × 112.4 GB"]),
        (Room(free_gb=450, free_files=68), []),
        (Room(free_gb=450, free_files=67), ["4 × 17 files"]),
        (Room(free_gb=1, free_files=None), ["4 × 112.4 GB"]),
        (None, []),
    ],
    ids=str,
)
def test_disk_and_inodes_must_hold_what_stays(work: Path, room: Room | None, words: list[str]) -> None:
    found = [problem for problem in looked_at(work, room=room) if problem.where == "runs_root"]
    assert len(found) == len(words)
    assert all(word in problem.message for word, problem in zip(words, found, strict=True))


def test_a_batch_larger_than_the_data_is_told(work: Path) -> None:
    data = Prepared(epoch_size=63, sample_tokens=10, row_tokens=10)
    assert "train.global_batch_size" in places(looked_at(work, data=data))
    assert places(looked_at(work, data=replace(data, epoch_size=64))) == []


def test_room_is_that_of_the_file_system_the_folder_will_be_on(tmp_path: Path) -> None:
    here = room_at(tmp_path / "not" / "there" / "yet")
    assert here is not None
    assert here.free_gb > 0


def test_warnings_are_on_the_page_and_in_json(work: Path, roomy: None, capsys: Out) -> None:
    assert main(["plan", "sft_llama3_8b", "optim.lr=0.1"]) == 0
    assert "WARNING       optim.lr: 0.1 is far above" in capsys.readouterr().out
    assert main(["plan", "sft_llama3_8b", "optim.lr=0.1", "--json"]) == 0
    assert places([Problem(**item) for item in json.loads(capsys.readouterr().out)["warnings"]]) == ["optim.lr"]
    assert main(["plan", "sft_llama3_8b", "optim.lr=0.1", "--cfg"]) == 0
    seen = capsys.readouterr()
    assert seen.err.startswith("WARNING optim.lr")
    assert "WARNING" not in seen.out


@pytest.mark.parametrize("verb", ["plan", "submit"])
def test_strict_makes_them_errors(demo: Path, work: Path, roomy: None, capsys: Out, verb: str) -> None:
    assert main([verb, "demo", "optim.lr=0.1", "--strict"]) == 2
    assert "optim.lr: 0.1 is far above" in capsys.readouterr().err
    assert list(work.iterdir()) == []
    assert main(["plan", "demo", "--strict"]) == 0


def test_warnings_come_together_with_errors(demo: Path, roomy: None, capsys: Out) -> None:
    words = ["plan", "demo", "optim.lr=0.1", "train.global_batch_size=7", "schedule.warmup_ratio=2", "--json"]
    assert main(words) == 2
    seen = capsys.readouterr()
    found = json.loads(seen.out)
    assert {item["where"] for item in found["error"]} == {"train.global_batch_size", "schedule.warmup_ratio"}
    # Of what is wrong, nothing more is told.
    assert [item["where"] for item in found["warnings"]] == ["optim.lr"]
    assert "WARNING optim.lr" in seen.err
