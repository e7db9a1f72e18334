"""L2-SP by its formula, and as training sees it: at every stage, after a resume, and on another number of ranks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from launcher.train.pull import pull_to_start
from tests.workbench import Bench, held_out, losses


def engine(optimiser: torch.optim.Optimizer) -> Any:
    return SimpleNamespace(basic_optimizer=optimiser, zero_optimization_stage=lambda: 0)


def test_each_step_goes_a_share_of_the_way_back() -> None:
    weights = [torch.nn.Parameter(torch.tensor([1.0, -2.0])), torch.nn.Parameter(torch.tensor([5.0]))]
    groups: list[dict[str, Any]] = [{"params": weights[:1], "lr": 0.5}, {"params": weights[1:], "lr": 0.25}]
    optimiser = torch.optim.SGD(groups)
    pull_to_start(engine(optimiser), 0.2)
    found = [weight.tolist() for weight in weights]
    starts = [list(values) for values in found]
    for step in range(3):
        for number, (weight, group) in enumerate(zip(weights, groups, strict=True)):
            weight.grad = torch.full_like(weight, 1.0 + step)
            found[number] = [
                value - group["lr"] * 0.2 * (value - start) - group["lr"] * (1.0 + step)
                for value, start in zip(found[number], starts[number], strict=True)
            ]
        optimiser.step()
        assert [weight.tolist() for weight in weights] == [pytest.approx(values, rel=1e-6) for values in found]


def test_what_is_loaded_later_is_pulled_to_where_the_engine_began() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimiser = torch.optim.AdamW([weight], lr=0.5, weight_decay=0.0)
    pull_to_start(engine(optimiser), 2.0)
    with torch.no_grad():
        weight.copy_(torch.tensor([100.0]))
    weight.grad = torch.zeros(1)
    optimiser.step()
    # The whole way: lr · strength = 1.
    assert weight.item() == 1.0


@pytest.mark.train
@pytest.mark.parametrize("setting", [["zero=zero2", "precision=bf16"], ["zero=zero3"]])
def test_a_pulled_run_stays_near_its_start_and_resumes_bit_for_bit(bench: Bench, setting: list[str]) -> None:
    overrides = [*setting, "optim.lr=0.01", "schedule=constant", "schedule.warmup_ratio=0", "optim.pull_to_start=50"]
    straight = bench.train(*overrides)
    stopped = bench.train(*overrides, "train.stop_at=3")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)
    assert held_out(stopped) == held_out(straight)
    if setting != ["zero=zero3"]:
        return
    free = held_out(bench.train(*overrides, "optim.pull_to_start=0"))
    near = held_out(straight)
    assert free[0] == near[0]
    assert free[0] - free[8] > 2 * (near[0] - near[8])
    alone = bench.train(*overrides, "train.stop_at=3")
    bench.run("resume", alone.name, "train.stop_at=null", "cluster.gpus_per_node=1", "--follow")
    assert losses(alone) == pytest.approx(losses(straight), rel=1e-5)
