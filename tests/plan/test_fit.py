"""Numbers of nodes that a run fits on: the fastest layout that does, why the faster ones do not, what is sensible."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cli.fit_page import fit_page
from launcher.cli.page import page
from launcher.config.schema import Config, ShapeConfig
from launcher.errors import UserError
from launcher.plan.build import Request, plan_request
from launcher.plan.fit import Fit, hiding_tokens, sensible, smallest, table
from launcher.plan.memory import fits, plan_memory
from launcher.plan.peaks import Peaks
from launcher.runplan import RunPlan
from tests.plan.test_memory import recipe


def rows_of(name: str, *overrides: str) -> tuple[Config, ShapeConfig, list[Fit]]:
    config, shape = recipe(name, *overrides)
    return config, shape, table(config, shape, 0, Peaks())


def test_a_70b_model_needs_nodes_or_host_memory() -> None:
    config, shape, rows = rows_of("sft_llama3_70b")
    assert [row.nodes for row in rows] == [1, 2, 4, 8, 16]
    assert [row.ranks for row in rows] == [8, 16, 32, 64, 128]
    least, own = smallest(rows, offloaded=True), smallest(rows, offloaded=False)
    assert least is not None
    assert least.layout is not None
    assert (least.nodes, least.layout.name) == (1, "zero=zero3 zero.offload_optimizer=true")
    # 16 bytes a parameter that is trained, and 14 for the copy that a checkpoint is written from.
    assert least.host_gb == pytest.approx(70_553_706_496 * 30 / 1e9)
    assert own is not None
    assert own.nodes == 4
    for row in rows:
        assert row.memory is not None
        assert fits(row.memory)
        assert row.micro * row.accumulation * row.ranks == config.train.global_batch_size
        # What is refused would hold more than may be filled, one sequence at a time.
        assert all(needed.memory.total_gb > 0.9 * 80 for needed in row.too_large)
        assert row.layout is not None
        laid = replace(
            config,
            zero=replace(config.zero, stage=row.layout.stage, offload_optimizer=row.layout.offload_optimizer),
        )
        again = plan_memory(laid, shape, row.ranks, row.micro, accumulation=row.accumulation)
        assert again.total_gb == pytest.approx(row.memory.total_gb)


def test_a_node_without_the_memory_for_it_takes_nothing_off_the_gpus() -> None:
    _, _, rows = rows_of("sft_llama3_70b", "cluster.mem_gb_per_node=512")
    assert [row.layout is None for row in rows] == [True, True, False, False, False]
    _, _, rows = rows_of("sft_llama3_70b", "cluster.mem_gb_per_node=200")
    # Not even for the copy.
    assert [row.layout is None for row in rows] == [True, True, True, False, False]
    lacking = {needed.layout.name: needed.host_gb for needed in rows[2].too_large}
    assert lacking["zero=zero2"] is None
    assert lacking["zero=zero3"] == pytest.approx(70_553_706_496 * 14 / 4 / 1e9)
    assert [needed.layout.name for needed in rows[0].too_large][-1] == "zero=zero3_offload"


def test_enough_work_is_a_pass_as_long_as_its_traffic() -> None:
    config, _, rows = rows_of("sft_llama3_70b")
    good = [row.nodes for row in sensible(rows)]
    assert good == [4, 8]
    assert all((row.micro * 4096 >= hiding_tokens(config, row.nodes)) == row.enough_work for row in rows)


def test_layouts_that_the_config_rules_out_are_not_offered() -> None:
    _, _, rows = rows_of("qlora_llama3_70b")
    assert all(row.layout is not None and row.layout.stage < 3 for row in rows)


def test_a_set_micro_batch_is_kept_where_it_divides() -> None:
    _, _, rows = rows_of("sft_llama3_8b", "train.micro_batch_size=4", "cluster.gpu_memory_gb=140")
    assert [(row.micro, row.accumulation) for row in rows] == [(4, 2), (4, 1), (2, 1), (1, 1)]


def test_where_nothing_fits_the_page_says_what_to_do(work: Path) -> None:
    plan = plan_request(
        Request(
            recipe="sft_llama3_70b",
            overrides=["cluster.gpu_memory_gb=4", "train.micro_batch_size=1"],
            config_dir=None,
            work_dir=work,
        )
    )
    _, _, rows = rows_of("sft_llama3_70b", "cluster.gpu_memory_gb=4", "train.micro_batch_size=1")
    told = fit_page(plan, rows)
    assert "fits on none of these" in told
    assert "adapter=lora" in told
    assert "nothing" in told


def test_the_command_prints_the_table(work: Path) -> None:
    command = [sys.executable, "-m", "launcher.cli.main", "plan", "sft_llama3_70b", "--fit"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=work, env=dict(os.environ))
    assert "fewest: 1 node (8 GPUs): cluster.nodes=1 zero=zero3 zero.offload_optimizer=true" in answer.stdout
    assert "fewest without host memory: 4 nodes (32 GPUs): cluster.nodes=4 zero=zero3" in answer.stdout
    assert "sensible: 4 to 8 nodes" in answer.stdout


@pytest.mark.parametrize(
    ("overrides", "stage", "offloaded", "words"),
    [
        (["cluster.nodes=1"], 3, True, "zero=zero3 would take 162 GiB"),
        (
            ["cluster.nodes=4"],
            3,
            False,
            "auto: zero=zero3; zero=zero1 would take 430 GiB, zero=zero2 would take 176 GiB",
        ),
        (["cluster.nodes=8", "cluster.gpu_memory_gb=192"], 2, False, "auto: zero=zero2"),
        (["cluster.nodes=4", "cluster.gpu_memory_gb=8"], 3, True, "auto: nothing fits"),
    ],
    ids=["one-node", "four", "large-gpus", "tiny-gpus"],
)
def test_auto_takes_what_costs_least_speed(
    work: Path, overrides: list[str], stage: int, offloaded: bool, words: str
) -> None:
    plan = plan_request(
        Request(recipe="sft_llama3_70b", overrides=["zero=auto", *overrides], config_dir=None, work_dir=work)
    )
    zero = plan.config.zero
    assert (zero.auto, zero.stage, zero.offload_optimizer) == (False, stage, offloaded)
    assert plan.deepspeed["zero_optimization"]["stage"] == stage
    assert words in plan.layout
    assert plan.layout in page(plan)


def test_auto_keeps_to_what_the_rest_allows_and_other_mistakes_are_told(work: Path) -> None:
    def planned(*overrides: str) -> RunPlan:
        return plan_request(
            Request(recipe="qlora_llama3_70b", overrides=["zero=auto", *overrides], config_dir=None, work_dir=work)
        )

    assert planned().config.zero.stage == 1
    with pytest.raises(UserError, match=r"optim\.lr") as caught:
        planned("optim.lr=-1")
    assert "zero" not in str(caught.value)
    with pytest.raises(UserError, match=r"train\.global_batch_size"):
        planned("train.global_batch_size=7")


def test_a_frozen_config_holds_what_was_chosen(work: Path) -> None:
    plan = plan_request(Request(recipe="sft_llama3_70b", overrides=["zero=auto"], config_dir=None, work_dir=work))
    again = RunPlan.load(_written(plan, work))
    assert (again.config.zero.auto, again.config.zero.stage) == (False, plan.config.zero.stage)


def _written(plan: RunPlan, folder: Path) -> Path:
    plan.write(folder / "plan.json")
    return folder / "plan.json"
