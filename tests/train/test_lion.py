"""Lion is its formula, in parts and over ranks, and is carried over to other ranks like AdamW."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from launcher.train import lion
from launcher.train.lion import Lion
from tests.workbench import Bench, losses

LR, BETAS, DECAY = 0.03, (0.9, 0.99), 0.5


def by_formula(start: torch.Tensor, gradients: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Algorithm 2 of the paper, element by element, in double precision: (parameter, momentum)."""
    values, means = start.double().tolist(), [0.0] * start.numel()
    for gradient in gradients:
        for place, slope in enumerate(gradient.double().tolist()):
            update = BETAS[0] * means[place] + (1 - BETAS[0]) * slope
            sign = (update > 0) - (update < 0)
            values[place] -= LR * (sign + DECAY * values[place])
            means[place] = BETAS[1] * means[place] + (1 - BETAS[1]) * slope
    return torch.tensor(values), torch.tensor(means)


@pytest.mark.parametrize("chunk", [3, 1 << 26])
def test_steps_are_those_of_the_paper(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lion, "CHUNK", chunk)
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(8))
    start, gradients = parameter.detach().clone(), [torch.randn(8) for _ in range(6)]
    gradients[2][1] = 0.0
    optimiser = Lion([{"params": [parameter], "weight_decay": DECAY}], lr=LR, betas=BETAS)
    for gradient in gradients:
        parameter.grad = gradient
        optimiser.step()
    value, momentum = by_formula(start, gradients)
    assert torch.allclose(parameter.detach(), value, atol=1e-6)
    assert torch.allclose(optimiser.state[parameter]["exp_avg"], momentum, atol=1e-6)


def test_a_parameter_without_a_gradient_stays() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = Lion([{"params": [parameter], "weight_decay": DECAY}], lr=LR, betas=BETAS)
    optimiser.step()
    assert parameter.tolist() == [1, 1, 1]
    assert not optimiser.state


def test_its_second_state_takes_no_room_also_after_loading() -> None:
    parameter = torch.nn.Parameter(torch.ones(1000))
    optimiser = Lion([{"params": [parameter], "weight_decay": DECAY}], lr=LR, betas=BETAS)
    parameter.grad = torch.ones(1000)
    optimiser.step()
    state = optimiser.state[parameter]
    assert state["exp_avg_sq"].shape == (1000,)
    assert state["exp_avg_sq"].untyped_storage().nbytes() == 4
    state["exp_avg_sq"] = torch.zeros(1000)
    optimiser.step()
    assert state["exp_avg_sq"].untyped_storage().nbytes() == 4
    assert state["step"] == 2


OWN = ["optim=lion", "optim.lr=1e-3", "train.max_steps=6", "data.eval=null", "checkpoint.keep_last=null"]


@pytest.mark.train
def test_stages_and_numbers_of_ranks_agree_and_a_resume_is_bit_for_bit(bench: Bench) -> None:
    straight = bench.train(*OWN, "zero.stage=3", "cluster.gpus_per_node=2")
    alone = bench.train(*OWN, "zero.stage=1", "cluster.gpus_per_node=1")
    assert losses(alone) == pytest.approx(losses(straight), rel=1e-3)
    assert losses(straight)[6] < losses(straight)[1]
    stopped = bench.train(*OWN, "zero.stage=3", "cluster.gpus_per_node=2", "train.stop_at=3")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)


@pytest.mark.train
@pytest.mark.parametrize("stage", [2, 3])
def test_it_goes_on_with_another_number_of_ranks(bench: Bench, stage: int) -> None:
    run = bench.train(*OWN, f"zero.stage={stage}", "cluster.gpus_per_node=2", "train.stop_at=3")
    bench.run("resume", run.name, "cluster.gpus_per_node=1", "train.stop_at=null", "--follow")
    straight = bench.train(*OWN, f"zero.stage={stage}", "cluster.gpus_per_node=2")
    assert losses(run) == pytest.approx(losses(straight), rel=1e-3)
    copied = torch.load(run / "checkpoints" / "universal-00000003" / "zero" / "lm_head.weight" / "exp_avg.pt")
    # Stage 3's conversion writes the tensor by itself.
    assert (copied["param"] if isinstance(copied, dict) else copied).abs().sum() > 0


@pytest.mark.train
def test_a_resume_cannot_change_the_optimiser(bench: Bench) -> None:
    run = bench.train("train.max_steps=2", "data.eval=null", "train.stop_at=1")
    refused = bench.run("resume", run.name, "optim.name=lion", "--accept-changes", check=False)
    assert refused.returncode == 2
    assert "optim.name: adamw → lion" in refused.stderr
    assert json.loads((Path(run) / "plan.json").read_text())["config"]["optim"]["name"] == "adamw"
