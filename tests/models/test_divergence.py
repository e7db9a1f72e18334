"""Divergences by chunks are those of the whole, gradients included. Formulas: tests/objectives/test_formulas.py."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from launcher.models import divergence
from launcher.models.divergence import forward_kl, jensen_shannon, reverse_kl

ALL = [forward_kl, reverse_kl, functools.partial(jensen_shannon, beta=0.3)]
Divergence = Callable[[Tensor, Tensor], Tensor]


def found(of: Divergence, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """Per token, and the student's gradient."""
    student = student.clone().requires_grad_()
    values = of(teacher, student)
    values.sum().backward()
    assert student.grad is not None
    return values.detach(), student.grad


@pytest.mark.parametrize("of", ALL)
def test_chunks_change_nothing(of: Divergence, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = torch.randn(7, 11), torch.randn(7, 11)
    whole = found(of, teacher, student)
    monkeypatch.setattr(divergence, "CHUNK_TOKENS", 3)
    for one, other in zip(whole, found(of, teacher, student), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("of", ALL)
def test_a_model_is_no_distance_from_itself_and_wants_no_change(of: Divergence) -> None:
    logits = torch.randn(5, 11)
    values, gradient = found(of, logits, logits)
    assert values.abs().max() < 1e-6
    assert gradient.abs().max() < 1e-6


@pytest.mark.parametrize("of", ALL)
def test_of_no_tokens_there_is_none(of: Divergence) -> None:
    values, gradient = found(of, torch.zeros(0, 11), torch.zeros(0, 11))
    assert values.shape == (0,)
    assert gradient.shape == (0, 11)
