"""The moving average of weights: its formula, in every checkpoint, over a resume, on other ranks, and in an export."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from launcher.train.average import keep_average
from tests.workbench import Bench, losses

DECAY = 0.75


def engine(optimiser: torch.optim.Optimizer) -> Any:
    return SimpleNamespace(basic_optimizer=optimiser)


def test_the_average_follows_the_weights_by_its_formula() -> None:
    weights = [torch.nn.Parameter(torch.tensor([1.0, -2.0])), torch.nn.Parameter(torch.tensor([5.0]))]
    optimiser = torch.optim.AdamW(weights, lr=0.1)
    keep_average(engine(optimiser), DECAY)
    expected: list[list[float]] = []
    for step in range(4):
        for weight in weights:
            weight.grad = torch.full_like(weight, 1.0 - step)
        optimiser.step()
        now = [weight.tolist() for weight in weights]
        expected = (
            now
            if step == 0
            else [
                [DECAY * before + (1 - DECAY) * value for before, value in zip(old, new, strict=True)]
                for old, new in zip(expected, now, strict=True)
            ]
        )
        found = [optimiser.state[weight]["ema"].tolist() for weight in weights]
        assert found == [pytest.approx(values, rel=1e-6) for values in expected]


def test_what_has_no_gradient_has_no_average() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.AdamW([weight], lr=0.1)
    keep_average(engine(optimiser), DECAY)
    optimiser.step()
    assert not optimiser.state


OWN = [f"optim.ema_decay={DECAY}", "optim.lr=0.01", "train.max_steps=4", "data.eval=null", "checkpoint.keep_last=null"]


def weights_of(bench: Bench, run: Path, step: int, *options: str) -> dict[str, torch.Tensor]:
    out = bench.root / f"out-{run.name}"
    bench.run("export", run.name, "--step", str(step), "--dtype", "fp32", "--out", str(out), *options)
    return load_file(out / "model.safetensors")


def by_formula(bench: Bench, run: Path, steps: int) -> dict[str, torch.Tensor]:
    """The average from the exported weights of every step."""
    found = weights_of(bench, run, 1)
    for step in range(2, steps + 1):
        now = weights_of(bench, run, step)
        found = {name: DECAY * found[name] + (1 - DECAY) * now[name] for name in now}
    return found


@pytest.mark.train
@pytest.mark.parametrize("setting", [["zero=zero1", "precision=bf16"], ["zero=zero3"]])
def test_an_export_holds_the_average_also_after_a_resume_on_other_ranks(bench: Bench, setting: list[str]) -> None:
    straight = bench.train(*OWN, *setting, "cluster.gpus_per_node=2", "checkpoint.every_steps=1")
    expected, average = by_formula(bench, straight, 4), weights_of(bench, straight, 4, "--ema")
    said = bench.root / f"out-{straight.name}"
    assert json.loads((said / "export.json").read_text())["ema_decay"] == DECAY
    assert "moving average" in (said / "README.md").read_text()
    assert average.keys() == expected.keys()
    assert all(torch.allclose(average[name], expected[name], atol=1e-6) for name in expected)
    run = bench.train(*OWN, *setting, "cluster.gpus_per_node=2", "train.stop_at=2")
    bench.run("resume", run.name, "train.stop_at=3", "--follow")
    resumed, third = (weights_of(bench, one, 3, "--ema") for one in (run, straight))
    assert all(torch.equal(resumed[name], third[name]) for name in third)
    bench.run("resume", run.name, "cluster.gpus_per_node=1", "train.stop_at=null", "--follow")
    assert losses(run) == pytest.approx(losses(straight), rel=1e-3)
    carried, anew = weights_of(bench, run, 4, "--ema"), weights_of(bench, run, 4)
    assert all(torch.allclose(carried[name], average[name], atol=1e-4) for name in average)
    assert any(not torch.allclose(anew[name], average[name], atol=1e-3) for name in average)


@pytest.mark.train
def test_there_is_no_average_to_export_of_a_run_that_kept_none(bench: Bench) -> None:
    run = bench.train("train.max_steps=1", "data.eval=null")
    refused = bench.run("export", run.name, "--ema", check=False)
    assert refused.returncode == 2
    assert "optim.ema_decay=null" in refused.stderr
    assert not (run / "export").exists()
    compared = bench.run("export", run.name, "--ema", "--verify", check=False)
    assert compared.returncode == 2
    assert "--ema writes other weights" in compared.stderr
