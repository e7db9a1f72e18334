"""What an earlier run of the same shape measured is told, and counts more than the estimate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cli.page import page
from launcher.plan.build import Request, plan_request
from launcher.plan.earlier import LOOKED_AT
from launcher.plan.memory import fits
from launcher.runplan import RunPlan


def planned(work: Path, *overrides: str) -> RunPlan:
    words = [f"runs_root={work}/runs", *overrides]
    return plan_request(Request(recipe="sft_llama3_8b", overrides=words, config_dir=None, work_dir=work))


def ran(plan: RunPlan, *peaks: float | None) -> None:
    folder = Path(plan.run_dir)
    folder.mkdir(parents=True)
    plan.write(folder / "plan.json")
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": 1, "memory_gb": peak}) + "\n" for peak in peaks))


def test_the_newest_run_like_it_tells(work: Path) -> None:
    ran(planned(work), 50.0)
    newest = planned(work, "optim.lr=1e-6", "train.epochs=1")
    ran(newest, 61.2, 61.25)
    ran(planned(work, "train.micro_batch_size=1"), 7.0)
    ran(planned(work, "zero=zero2"), 7.0)
    ran(planned(work, "cluster.gpu_type=h200"), 7.0)
    ran(planned(work), None)
    found = planned(work)
    assert (found.memory.measured_gb, found.memory.measured_by) == (61.25, newest.run_id)
    told = f"measured by {newest.run_id}"
    assert any(told in line and line.endswith("61.2 GiB") for line in page(found).splitlines())


@pytest.mark.parametrize(("measured", "expected"), [(71.9, True), (72.1, False)])
def test_it_decides_whether_a_plan_fits(work: Path, measured: float, expected: bool) -> None:
    memory = replace(planned(work).memory, measured_gb=measured, available_gb=80, states_gb=1000 * expected)
    assert fits(memory) == expected


def test_only_so_many_runs_are_looked_at_and_damaged_ones_passed_over(work: Path) -> None:
    ran(planned(work), 50.0)
    for number in range(LOOKED_AT - 1):
        folder = work / "runs" / f"other-20990101-000000-{number:04x}"
        folder.mkdir()
        (folder / "plan.json").write_text("{" if number % 2 else '{"version": 1}')
    assert planned(work).memory.measured_gb == 50.0
    (work / "runs" / "other-20990102-000000-0000").mkdir()
    (work / "runs" / "other-20990102-000000-0000" / "plan.json").write_text("[]")
    assert planned(work).memory.measured_gb is None
