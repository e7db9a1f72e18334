"""What earlier runs of the same kind took is told in place of an estimate."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest import mock

import pytest

from launcher.plan import alike
from launcher.plan.build import Request, plan_request
from launcher.publish import append_record, publish_json
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record

SPEED = 1000.0


def planned(work: Path, *overrides: str) -> RunPlan:
    words = ["train.max_steps=1000", "train.epochs=null", *overrides]
    return plan_request(Request(recipe="sft_llama3_8b", overrides=words, config_dir=None, work_dir=work))


def ran(work: Path, *overrides: str, stamp: str = "20260101-000000-abcd", steps: int = 10, step_s: float = 7.0) -> str:
    """A run that took that long, of which the plan and the measures are there; its name."""
    plan = planned(work, *overrides)
    run = RunDir(work / "runs" / f"mine-{stamp}")
    run.root.mkdir(parents=True)
    publish_json(run.plan, plan.to_json())
    for step in range(1, steps + 1):
        seconds = 100.0 if step == 1 else step_s
        values = {"step_time_s": seconds, "tokens_per_s": SPEED, "mfu": 0.37, "attempt": 1}
        append_record(run.metrics, {"step": step, "loss": 2.0, **values})
    append_record(run.metrics, {"step": steps, "eval_loss": 2.0, "attempt": 1})
    record(run, Event.checkpoint, 1, step=steps, seconds=60.0, stalled_s=2.0, size=10)
    return run.root.name


def test_measures_replace_the_estimate(work: Path) -> None:
    name = ran(work)
    found = planned(work).expected
    pace = found.pace
    assert (pace.step_s, pace.tokens_per_s, pace.mfu, pace.save_s, pace.stall_s) == (7.0, SPEED, 0.37, 60.0, 2.0)
    assert (pace.measured, pace.how, pace.compute_s) == (True, f"measured by {name}", None)
    assert pace.tokens == 7000
    assert found.hours == pytest.approx(1000 * 7 / (found.goodput or 0) / 3600)


@pytest.mark.parametrize(
    "override",
    [
        "cluster.nodes=2",
        "cluster.gpu_type=a100",
        "train.global_batch_size=128",
        "train.micro_batch_size=2",
        "zero=zero2",
        "model=mistral_7b",
        "model.attention=eager",
        "data.seq_len=2048",
        "adapter=lora",
        "precision=fp16",
        "cluster.partition=other",
    ],
)
def test_runs_of_another_kind_say_nothing(work: Path, override: str) -> None:
    ran(work)
    assert not planned(work, override).expected.pace.measured


def test_runs_differ_as_they_like_in_what_costs_no_time(work: Path) -> None:
    ran(work)
    assert planned(work, "optim.lr=2e-6", "train.seed=1", "checkpoint.every_steps=7").expected.pace.measured


def test_the_newest_counts_that_has_measured_enough(work: Path) -> None:
    ran(work, stamp="20260101-000000-aaaa", step_s=9.0)
    good = ran(work, stamp="20260102-000000-aaaa", step_s=8.0)
    ran(work, stamp="20260103-000000-aaaa", steps=3)
    assert planned(work).expected.pace.how == f"measured by {good}"


def test_only_a_few_runs_are_looked_at_and_damaged_ones_passed_over(work: Path) -> None:
    ran(work, stamp="20260101-000000-aaaa")
    for number in range(alike.LOOKED_AT - 1):
        folder = work / "runs" / f"x-20260102-000000-{number:04x}"
        folder.mkdir()
        text = ("", "{", "[]", json.dumps({"config": None}), json.dumps({"version": 1}))[number % 5]
        (folder / "plan.json").write_text(text)
    assert planned(work).expected.pace.measured
    (work / "runs" / "x-20260103-000000-0000").mkdir()
    assert not planned(work).expected.pace.measured


def test_a_thousand_runs_cost_no_more_than_a_few(work: Path) -> None:
    for number in range(1000):
        (work / "runs" / f"x-20260102-000000-{number:04x}").mkdir(parents=True)
    with mock.patch.object(Path, "read_text", autospec=True, side_effect=Path.read_text) as read:
        planned(work)
    looked = [call.args[0] for call in read.call_args_list if call.args[0].name == "plan.json"]
    # Both for its memory and for its pace.
    assert sorted(looked) == sorted(run.plan for run in alike.newest(work / "runs"))
    assert len(looked) == alike.LOOKED_AT
    assert len(os.listdir(work / "runs")) == 1000
