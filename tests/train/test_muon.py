"""Muon is its formula, in parts and over ranks, and is carried over to other ranks."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from launcher.train.muon import Muon, orthogonal
from launcher.train.optimiser import parameter_groups
from launcher.train.whole import Whole
from tests.train.test_optimiser import ADAMW
from tests.workbench import Bench, losses

LR, MOMENTUM, BETAS, EPS, DECAY = 0.03, 0.9, (0.8, 0.95), 1e-8, 0.5


def muon(parameter: torch.nn.Parameter, *shapes: tuple[int, ...]) -> Muon:
    group = {"params": [parameter], "weight_decay": DECAY, "whole": bool(shapes)}
    optimiser = Muon([group], lr=LR, momentum=MOMENTUM, betas=BETAS, eps=EPS, fused=False)
    start, wholes = 0, []
    for rows, columns in shapes:
        wholes.append(Whole(shape=(rows, columns), places=[(start, rows * columns)]))
        start += rows * columns
    optimiser.layout = {id(parameter): wholes}
    return optimiser


def by_formula(start: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """Of one matrix, through its singular values, which the iteration changes one by one; in double precision."""
    value, mean = start.double(), torch.zeros_like(start, dtype=torch.float64)
    for gradient in gradients:
        mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient.double()
        ahead = MOMENTUM * mean + (1 - MOMENTUM) * gradient.double()
        left, singular, right = torch.linalg.svd(ahead, full_matrices=False)
        singular = singular / singular.square().sum().sqrt()
        for _ in range(5):
            singular = 3.4445 * singular - 4.7750 * singular**3 + 2.0315 * singular**5
        update = 0.2 * max(start.shape) ** 0.5 * (left * singular) @ right
        value = value - LR * (update + DECAY * value)
    return value


def test_steps_are_those_of_the_papers_for_each_matrix_of_a_flat_partition() -> None:
    torch.manual_seed(0)
    shapes = [(4, 7), (6, 3)]
    matrices = [torch.randn(shape) for shape in shapes]
    # Two elements of padding, as at a partition's end.
    parameter = torch.nn.Parameter(torch.cat([*(matrix.flatten() for matrix in matrices), torch.zeros(2)]))
    optimiser = muon(parameter, *shapes)
    gradients = [[torch.randn(shape) for shape in shapes] for _ in range(4)]
    for pair in gradients:
        parameter.grad = torch.cat([*(gradient.flatten() for gradient in pair), torch.zeros(2)])
        optimiser.step()
    found = parameter.detach().split([28, 18, 2])
    for number, matrix in enumerate(matrices):
        expected = by_formula(matrix, [pair[number] for pair in gradients])
        assert torch.allclose(found[number].view(shapes[number]).double(), expected, atol=1e-5)
    assert found[2].tolist() == [0, 0]


def test_an_orthogonalised_matrix_has_singular_values_near_one() -> None:
    torch.manual_seed(1)
    for shape in ((16, 16), (8, 32), (32, 8)):
        singular = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert singular.max() < 1.3
        assert singular.median() > 0.6


def test_what_is_no_hidden_matrix_is_adamws() -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.arange(6.0)) for _ in range(2))
    optimiser = muon(ours)
    adamw = torch.optim.AdamW([theirs], lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    for _ in range(4):
        ours.grad = torch.randn(6)
        theirs.grad = ours.grad.clone()
        optimiser.step()
        adamw.step()
    assert torch.equal(ours, theirs)


def test_hidden_matrices_are_those_inside_the_blocks() -> None:
    shape = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, vocab_size=16)
    model = AutoModelForCausalLM.from_config(shape)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, dataclasses.replace(ADAMW, name="muon"))
    whole = {names[id(one)] for group in groups if group.get("whole") for one in group["params"]}
    assert whole == {name for name in names.values() if ".layers." in name and "norm" not in name}
    assert len(whole) == 14


OWN = ["optim=muon", "optim.lr=3e-3", "train.max_steps=6", "data.eval=null", "checkpoint.keep_last=null"]


@pytest.mark.train
def test_stages_and_numbers_of_ranks_agree_and_a_resume_is_bit_for_bit(bench: Bench) -> None:
    straight = bench.train(*OWN, "zero.stage=3", "cluster.gpus_per_node=2")
    assert losses(straight)[6] < losses(straight)[1]
    alone = bench.train(*OWN, "zero.stage=2", "cluster.gpus_per_node=1")
    assert losses(alone) == pytest.approx(losses(straight), rel=1e-4)
    stopped = bench.train(*OWN, "zero.stage=3", "cluster.gpus_per_node=2", "train.stop_at=3")
    bench.run("resume", stopped.name, "train.stop_at=5", "--follow")
    bench.run("resume", stopped.name, "cluster.gpus_per_node=1", "train.stop_at=null", "--follow")
    assert {step: loss for step, loss in losses(stopped).items() if step < 6} == {
        step: loss for step, loss in losses(straight).items() if step < 6
    }
    assert losses(stopped)[6] == pytest.approx(losses(straight)[6], rel=1e-4)


@pytest.mark.train
def test_partitions_that_cut_matrices_are_resumed_in_bf16_and_on_other_ranks(bench: Bench) -> None:
    # At stage 1 in bf16 DeepSpeed has another optimiser, of which a partition ends in the middle of a matrix.
    own = [*OWN, "zero.stage=1", "precision=bf16"]
    straight = bench.train(*own, "cluster.gpus_per_node=2")
    stopped = bench.train(*own, "cluster.gpus_per_node=2", "train.stop_at=2")
    bench.run("resume", stopped.name, "train.stop_at=4", "--follow")
    bench.run("resume", stopped.name, "cluster.gpus_per_node=4", "train.stop_at=null", "--follow")
    first = {step: loss for step, loss in losses(straight).items() if step <= 4}
    assert {step: loss for step, loss in losses(stopped).items() if step <= 4} == first
    assert losses(stopped) == pytest.approx(losses(straight), rel=1e-2)
