"""What host memory holds of a run is told, and warned of where a node is asked for less."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cli.page import page
from launcher.plan.build import Request, plan_request
from launcher.plan.host import copy_gb, host_gb, offloaded_gb, too_little
from launcher.runplan import RunPlan

PARAMETERS = 8_030_261_248


def planned(work: Path, *overrides: str) -> RunPlan:
    return plan_request(Request(recipe="sft_llama3_8b", overrides=overrides, config_dir=None, work_dir=work))


@pytest.mark.parametrize(
    ("overrides", "offloaded", "copied"),
    [
        ([], 0, 14),
        (["checkpoint.asynchronous=false"], 0, 0),
        (["precision=fp32"], 0, 12),
        (["zero=zero3", "zero.offload_optimizer=true"], 16, 14),
        (["zero=zero3_offload"], 18, 14),
    ],
    ids=str,
)
def test_a_node_holds_its_share(work: Path, overrides: list[str], offloaded: float, copied: float) -> None:
    plan = planned(work, *overrides)
    for nodes in (1, 4):
        assert offloaded_gb(plan.config, plan.memory, nodes) == pytest.approx(offloaded * PARAMETERS / nodes / 1e9)
        assert copy_gb(plan.config, plan.memory, nodes) == pytest.approx(copied * PARAMETERS / nodes / 1e9)


@pytest.mark.parametrize(("limit", "warned"), [(100, True), (120, False), (0, False)])
def test_less_than_that_is_warned_of(work: Path, roomy: None, limit: int, warned: bool) -> None:
    plan = planned(work, f"cluster.mem_gb_per_node={limit}")
    assert host_gb(plan.config, plan.memory, 1) == pytest.approx(112.4, abs=0.1)
    assert too_little(plan.config, plan.memory, plan.topology.nodes) == warned
    text = page(plan)
    assert "112.4 for the copy that a checkpoint is written from" in text
    assert (f"cluster.mem_gb_per_node: {limit} GB of host memory are asked for" in text) == warned
    assert [problem.where for problem in plan.warnings] == ["cluster.mem_gb_per_node"] * warned
