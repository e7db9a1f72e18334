"""Kernels that add up in any order are left out while a run trains, and a run that needs one is told what to set."""

from __future__ import annotations

import pytest
import torch

from launcher.errors import UserError
from launcher.train.deterministic import same_bits_every_time


def test_torch_is_told_to_leave_out_what_adds_up_in_any_order_and_only_meanwhile() -> None:
    with same_bits_every_time():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_that_has_no_other_kernel_is_named_with_the_way_round() -> None:
    with pytest.raises(UserError) as caught, same_bits_every_time():
        torch.zeros(3).put_(torch.tensor([1]), torch.ones(1), accumulate=False)
    assert "put_" in str(caught.value)
    assert "train.deterministic=false" in str(caught.value)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), same_bits_every_time():
        raise RuntimeError("CUDA out of memory")
