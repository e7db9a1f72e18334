"""What an earlier run of the same shape measured is told, and counts more than the estimate."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from launcher.cli.page import page
from launcher.cli.plan import fitting
from launcher.plan import alike
from launcher.plan.alike import LOOKED_AT
from launcher.plan.build import Request, plan_request
from launcher.plan.memory import fits
from launcher.remember import remembering
from launcher.runplan import RunPlan

SECONDS = itertools.count()


def planned(work: Path, *overrides: str) -> RunPlan:
    words = [f"runs_root={work}/runs", *overrides]
    return plan_request(Request(recipe="sft_llama3_8b", overrides=words, config_dir=None, work_dir=work))


def ran(plan: RunPlan, *peaks: float | None) -> str:
    """A run of that plan, later than all before, of which the plan and the measures are there; its name."""
    folder = Path(plan.run_dir).with_name(f"mine-20260101-{next(SECONDS):06d}-abcd")
    folder.mkdir(parents=True)
    plan.write(folder / "plan.json")
    (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": 1, "memory_gb": peak}) + "\n" for peak in peaks))
    return folder.name


def test_the_newest_run_like_it_tells(work: Path) -> None:
    ran(planned(work), 50.0)
    newest = ran(planned(work, "optim.lr=1e-6", "train.epochs=1"), 61.2, 61.25)
    ran(planned(work, "train.micro_batch_size=1"), 7.0)
    ran(planned(work, "zero=zero2"), 7.0)
    ran(planned(work, "cluster.gpu_type=h200"), 7.0)
    ran(planned(work), None)
    found = planned(work)
    assert (found.memory.measured_gb, found.memory.measured_by) == (61.25, newest)
    told = f"measured by {newest}"
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


AUTO = ("train.micro_batch_size=auto", "cluster.nodes=1", "train.global_batch_size=64")


def test_auto_takes_the_micro_batch_that_was_measured_to_fit_and_none_above_one_that_was_not(work: Path) -> None:
    estimated = planned(work, *AUTO)
    micro = estimated.batch.micro_batch_size
    assert estimated.batch.chosen == "auto: the largest divisor that fits"
    name = ran(planned(work, *AUTO, f"train.micro_batch_size={2 * micro}"), 71.0)
    larger = planned(work, *AUTO)
    assert larger.batch.micro_batch_size == 2 * micro
    assert larger.batch.chosen == f"auto: the largest divisor that fits; {2 * micro} took 71 GiB (measured by {name})"
    assert (larger.memory.measured_gb, larger.memory.measured_by) == (71.0, name)
    ran(planned(work, *AUTO, "train.micro_batch_size=2"), 79.0)
    assert micro > 2
    assert planned(work, *AUTO).batch.micro_batch_size == 1
    ran(planned(work, *AUTO, "train.micro_batch_size=1"), 73.0)
    assert planned(work, *AUTO).batch.chosen.startswith("auto: even 1 is too much; 1 took 73 GiB")


def test_auto_takes_the_layout_that_was_measured_to_fit(work: Path) -> None:
    sizes = ("cluster.nodes=2", "train.micro_batch_size=1", "train.global_batch_size=64")
    layouts = [f"zero=zero{stage}" for stage in (1, 2, 3)]
    estimated = planned(work, *sizes, "zero=auto")
    assert estimated.config.zero.stage == 1
    least = ran(planned(work, *sizes, layouts[0]), 78.0)
    found = planned(work, *sizes, "zero=auto")
    assert found.config.zero.stage == 2
    assert found.layout == f"auto: zero=zero2; zero=zero1 took 78 GiB (measured by {least})"
    second = ran(planned(work, *sizes, layouts[1]), 50.0)
    found = planned(work, *sizes, "zero=auto")
    assert found.layout.startswith(f"auto: zero=zero2; measured by {second}; zero=zero1 took")


def test_the_table_of_nodes_goes_by_what_was_measured_and_says_so(work: Path) -> None:
    sizes = ("cluster.nodes=2", "train.micro_batch_size=1", "train.global_batch_size=64")
    least = ran(planned(work, *sizes, "zero=zero1"), 78.0)
    told = fitting(planned(work, *sizes)).splitlines()
    row = next(line for line in told if line.split()[:2] == ["2", "16"])
    assert "zero=zero2" in row
    assert row.endswith("zero1: 78*")
    assert f"(* measured by {least}; counts instead of the estimate.)" in told
    assert sum("*" in line for line in told) == 2


def test_each_record_is_read_once(work: Path) -> None:
    for micro in (1, 2, 4):
        ran(planned(work, f"train.micro_batch_size={micro}"), 50.0)
    with (
        mock.patch.object(Path, "read_text", autospec=True, side_effect=Path.read_text) as plans,
        mock.patch.object(alike, "tail", side_effect=alike.tail) as metrics,
        remembering(),
    ):
        fitting(planned(work, "zero=auto", "train.micro_batch_size=auto"))
    read = [call.args[0] for call in plans.call_args_list if call.args[0].name == "plan.json"]
    assert len(read) == len(set(read)) == 3
    assert metrics.call_count == 3
