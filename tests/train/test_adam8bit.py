"""Adam in 8 bits is bitsandbytes' and its formula, resumes bit for bit, and is packed anew for other ranks."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from launcher.checkpoint.packed import BLOCK, codebook, pack, unpack, unpack_part, zeros
from launcher.train import adam8bit
from launcher.train.adam8bit import Adam8bit
from tests.workbench import Bench, losses

LR, BETAS, EPS, DECAY = 0.01, (0.9, 0.95), 1e-8, 0.5
CPU = torch.device("cpu")


def made(parameter: torch.nn.Parameter) -> Adam8bit:
    return Adam8bit([{"params": [parameter], "weight_decay": DECAY}], lr=LR, betas=BETAS, eps=EPS)


def steps(parameter: torch.nn.Parameter, optimiser: torch.optim.Optimizer, seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()


def nearest(values: list[float], codes: list[float]) -> list[float]:
    """One block, each value as the nearest share of the largest."""
    scale = max(abs(value) for value in values)
    return [scale * min(codes, key=lambda code: abs(value / scale - code)) for value in values]


def test_steps_are_those_of_adamw_with_moments_rounded_to_the_nearest_code() -> None:
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(40))
    optimiser = made(parameter)
    value, first, second = parameter.double().tolist(), [0.0] * 40, [0.0] * 40
    signed, unsigned = (codebook(CPU, signed=sign).double().tolist() for sign in (True, False))
    for step in range(1, 6):
        gradient = torch.randn(40)
        parameter.grad = gradient
        optimiser.step()
        for place, slope in enumerate(gradient.double().tolist()):
            first[place] = BETAS[0] * first[place] + (1 - BETAS[0]) * slope
            second[place] = BETAS[1] * second[place] + (1 - BETAS[1]) * slope**2
            root = math.sqrt(second[place] / (1 - BETAS[1] ** step)) + EPS
            value[place] -= LR * (first[place] / (1 - BETAS[0] ** step) / root + DECAY * value[place])
        first, second = nearest(first, signed), nearest(second, unsigned)
    assert parameter.tolist() == [pytest.approx(one, abs=1e-5) for one in value]


@pytest.mark.parametrize("chunk", [BLOCK, 1 << 24])
def test_steps_are_those_of_bitsandbytes(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    monkeypatch.setattr(adam8bit, "CHUNK", chunk)
    torch.manual_seed(0)
    # More than bitsandbytes leaves in 32 bits, and no whole number of blocks.
    ours = torch.nn.Parameter(torch.randn(5000))
    theirs = torch.nn.Parameter(ours.detach().clone())
    start = ours.detach().clone()
    steps(ours, made(ours), seed=1, count=10)
    kept = bitsandbytes.optim.AdamW8bit([theirs], lr=LR, betas=BETAS, eps=EPS, weight_decay=DECAY)
    steps(theirs, kept, seed=1, count=10)
    # Where a moment lies between two codes, one library may take the one and the other the other.
    apart = (ours - theirs).abs() / (ours - start).abs().max()
    assert apart.median() < 1e-6
    assert apart.max() < 0.02


def test_what_is_packed_is_near_to_what_it_was_and_any_part_can_be_had() -> None:
    torch.manual_seed(0)
    values = torch.randn(1000) * torch.logspace(-3, 3, 1000)
    for signed, some in ((True, values), (False, values.square())):
        codes, scales = zeros(1000, CPU, signed=signed)
        assert unpack(codes, scales, signed=signed).tolist() == [0] * 1000
        pack(some, codes, scales, signed=signed)
        found = unpack(codes, scales, signed=signed)
        block = some.split(BLOCK)[2]
        assert ((found.split(BLOCK)[2] - block).abs() / block.abs().max()).max() < 0.015
        for start, count in ((0, 1000), (0, 3), (255, 2), (256, 256), (700, 300), (1000, 0)):
            part = unpack_part(codes, scales, start, count, signed=signed)
            assert torch.equal(part, found[start : start + count])


def test_loading_gives_the_codes_back_as_they_were_and_takes_whole_moments_too() -> None:
    torch.manual_seed(0)
    straight = torch.nn.Parameter(torch.randn(600))
    optimiser = made(straight)
    steps(straight, optimiser, seed=1, count=3)
    resumed = torch.nn.Parameter(straight.detach().clone())
    loaded = made(resumed)
    loaded.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    assert loaded.state[resumed]["exp_avg_codes"].dtype is torch.uint8
    anew = torch.nn.Parameter(straight.detach().clone())
    moved = made(anew)
    state = optimiser.state[straight]
    for name, signed in adam8bit.PACKED.items():
        moved.state[anew][name] = unpack(state[f"{name}_codes"], state[f"{name}_scales"], signed=signed)
    moved.state[anew]["step"] = state["step"].clone()
    for parameter, made_with in ((straight, optimiser), (resumed, loaded), (anew, moved)):
        steps(parameter, made_with, seed=2, count=3)
    assert torch.equal(resumed, straight)
    assert torch.allclose(anew, straight, atol=LR / 10)


def test_its_moments_take_two_bytes_of_each_parameter() -> None:
    parameter = torch.nn.Parameter(torch.randn(10 * BLOCK))
    optimiser = made(parameter)
    steps(parameter, optimiser, seed=1, count=1)
    tensors = [value for value in optimiser.state[parameter].values() if value.dim()]
    assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == 2 * 10 * BLOCK + 2 * 10 * 4 + 2 * 4


OWN = ["optim=adam8bit", "optim.lr=3e-3", "train.max_steps=6", "data.eval=null", "checkpoint.keep_last=null"]


@pytest.mark.train
def test_a_resume_is_bit_for_bit_and_other_ranks_go_on(bench: Bench) -> None:
    straight = bench.train(*OWN, "zero.stage=2", "cluster.gpus_per_node=2")
    assert losses(straight)[6] < losses(straight)[1]
    stopped = bench.train(*OWN, "zero.stage=2", "cluster.gpus_per_node=2", "train.stop_at=2")
    bench.run("resume", stopped.name, "train.stop_at=4", "--follow")
    bench.run("resume", stopped.name, "cluster.gpus_per_node=1", "train.stop_at=null", "--follow")
    same, later = ({step: losses(run)[step] for step in (1, 2, 3, 4)} for run in (stopped, straight))
    assert same == later
    assert losses(stopped) == pytest.approx(losses(straight), rel=1e-2)
    carried = torch.load(stopped / "checkpoints" / "universal-00000004" / "zero" / "lm_head.weight" / "exp_avg.pt")
    assert carried["param"].abs().sum() > 0
