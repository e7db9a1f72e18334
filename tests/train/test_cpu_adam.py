"""What DeepSpeed's AdamW on the CPU does next depends on what a checkpoint holds, and on nothing else."""

from __future__ import annotations

import copy

import pytest
import torch

pytestmark = pytest.mark.train

NUMBERS = 4096


@pytest.fixture(scope="module", autouse=True)
def _extensions() -> None:
    from launcher.node.warm_up import own_extensions

    own_extensions()


def _begin(values: torch.Tensor) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    from launcher.train.cpu_adam import cpu_adam

    parameter = torch.nn.Parameter(values.clone())
    return parameter, cpu_adam([{"params": [parameter]}], lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)


def _steps(parameter: torch.nn.Parameter, optimiser: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        parameter.grad = torch.randn(NUMBERS, generator=torch.Generator().manual_seed(number))
        optimiser.step()


@pytest.mark.parametrize("stop", [1, 5, 8, 30])
def test_steps_after_a_resume_equal_those_of_a_run_that_never_stopped(stop: int) -> None:
    start = torch.randn(NUMBERS, generator=torch.Generator().manual_seed(99))
    straight, optimiser = _begin(start)
    _steps(straight, optimiser, range(stop))
    resumed, again = _begin(straight.detach())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for parameter, its_optimiser in ((straight, optimiser), (resumed, again)):
        _steps(parameter, its_optimiser, range(stop, stop + 10))
    assert torch.equal(resumed, straight)


def test_updates_equal_those_of_torch() -> None:
    start = torch.randn(NUMBERS, generator=torch.Generator().manual_seed(99))
    ours, optimiser = _begin(start)
    theirs = torch.nn.Parameter(start.clone())
    reference = torch.optim.AdamW([theirs], lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    _steps(ours, optimiser, range(20))
    _steps(theirs, reference, range(20))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
