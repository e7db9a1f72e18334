"""Adafactor is its formula, wherever ZeRO cuts a matrix, and its factors go along to other ranks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from launcher.train import adafactor
from launcher.train.adafactor import Adafactor
from launcher.train.whole import Whole
from tests.workbench import Bench, losses

LR, DECAY = 0.03, 0.5


def by_formula(start: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """Algorithms 4 (matrices) and 5 (vectors) of the paper, with sums as there, in double precision."""
    value, rows, columns = start.double(), torch.zeros(1), torch.zeros(1)
    for step, gradient in enumerate(gradients, start=1):
        slope = gradient.double()
        beta = 1 - step**-0.8
        squares = slope**2 + 1e-30
        if slope.dim() == 2:
            rows = beta * rows + (1 - beta) * squares.sum(dim=1, keepdim=True)
            columns = beta * columns + (1 - beta) * squares.sum(dim=0, keepdim=True)
            second = rows @ columns / rows.sum()
        else:
            rows = second = beta * rows + (1 - beta) * squares
        update = slope / second.sqrt()
        update = update / max(1.0, math.sqrt(float((update**2).mean())))
        scale = max(1e-3, math.sqrt(float((value**2).mean())))
        value = value * (1 - LR * DECAY) - LR * scale * update
    return value


def test_steps_are_those_of_the_paper_for_each_parameter_of_a_flat_partition() -> None:
    torch.manual_seed(0)
    shapes = [(4, 7), (5,), (6, 3)]
    starts = [torch.randn(shape) * 0.3 for shape in shapes]
    gradients = [[torch.randn(shape) * 3 ** float(step) for shape in shapes] for step in range(5)]
    parameter = torch.nn.Parameter(torch.cat([start.flatten() for start in starts]))
    optimiser = Adafactor([{"params": [parameter], "weight_decay": DECAY}], lr=LR)
    wholes, place = [], 0
    for start in starts:
        wholes.append(Whole(shape=tuple(start.shape), places=[(place, start.numel())]))
        place += start.numel()
    optimiser.layout = {id(parameter): wholes}
    for step in gradients:
        parameter.grad = torch.cat([gradient.flatten() for gradient in step])
        optimiser.step()
    found = torch.split(parameter.detach(), [start.numel() for start in starts])
    for number, start in enumerate(starts):
        expected = by_formula(start, [step[number] for step in gradients])
        assert torch.allclose(found[number].view(start.shape).double(), expected, atol=1e-6)
    assert optimiser.state[parameter]["factors"].numel() == 4 + 7 + 5 + 6 + 3


def test_wherever_a_matrix_is_cut_its_shares_give_the_sums_of_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    matrix, before = torch.randn(5, 7), 3
    for cuts in ((0, 35), (4, 10), (7, 7), (3, 20), (13, 14), (1, 6), (21, 34)):
        edges = [0, *cuts, 35]
        shares = [(before, end - start) for start, end in itertools.pairwise(edges)]
        whole, rows, columns = Whole(shape=(5, 7), places=shares), torch.zeros(5), torch.zeros(7)
        divided: list[torch.Tensor] = []
        by_rows, by_columns = torch.rand(5) + 0.1, torch.rand(7) + 0.1
        for rank, (_, count) in enumerate(shares):
            monkeypatch.setattr(adafactor.dist, "get_rank", lambda rank=rank: rank)
            partition = torch.cat([torch.zeros(before), matrix.flatten()[edges[rank] : edges[rank] + count]])
            for block in adafactor._blocks(whole, 7):
                adafactor._add_squares(block.of(partition), block, rows, columns)
                adafactor._divide(block.of(partition), block, by_rows, by_columns)
            divided.append(partition[before:])
        assert torch.allclose(rows, matrix.square().sum(dim=1))
        assert torch.allclose(columns, matrix.square().sum(dim=0))
        second = by_rows.unsqueeze(1) * by_columns / by_rows.mean()
        assert torch.allclose(torch.cat(divided).view(5, 7), matrix / second.sqrt())


OWN = ["optim=adafactor", "optim.lr=0.03", "train.max_steps=6", "data.eval=null", "checkpoint.keep_last=null"]


@pytest.mark.train
def test_stages_and_numbers_of_ranks_agree_and_a_resume_is_bit_for_bit(bench: Bench) -> None:
    straight = bench.train(*OWN, "zero.stage=3", "cluster.gpus_per_node=2")
    assert losses(straight)[6] < losses(straight)[1]
    alone = bench.train(*OWN, "zero.stage=1", "cluster.gpus_per_node=1")
    assert losses(alone) == pytest.approx(losses(straight), rel=1e-4)
    stopped = bench.train(*OWN, "zero.stage=3", "cluster.gpus_per_node=2", "train.stop_at=2")
    bench.run("resume", stopped.name, "train.stop_at=4", "--follow")
    bench.run("resume", stopped.name, "cluster.gpus_per_node=1", "train.stop_at=null", "--follow")
    same, later = ({step: losses(run)[step] for step in (1, 2, 3, 4)} for run in (stopped, straight))
    assert same == later
    assert losses(stopped) == pytest.approx(losses(straight), rel=1e-4)
