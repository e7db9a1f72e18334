"""How far two models' next-token distributions are apart, token by token, in natural logarithms."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 1024
"""Tokens whose distributions are held at a time: with a vocabulary of 128k, half a GiB each."""


def forward_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(teacher ‖ student) of logits [tokens, vocabulary]: [tokens]. Covers all that the teacher would say."""
    return by_chunks(lambda one, other: _kl(_logps(one), _logps(other)), teacher, student)


def reverse_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """KL(student ‖ teacher): keeps to what the teacher would most likely say."""
    return by_chunks(lambda one, other: _kl(_logps(other), _logps(one)), teacher, student)


def jensen_shannon(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """β KL(teacher ‖ mixture) + (1 - β) KL(student ‖ mixture), mixture = β teacher + (1 - β) student, 0 < β < 1
    (Agarwal et al., arXiv:2306.13649, eq. 1).
    """
    return by_chunks(functools.partial(_jensen_shannon, beta=beta), teacher, student)


def _jensen_shannon(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    one, other = _logps(teacher), _logps(student)
    mixture = torch.logaddexp(one + math.log(beta), other + math.log1p(-beta))
    return beta * _kl(one, mixture) + (1 - beta) * _kl(other, mixture)


def by_chunks(function: Callable[[Tensor, Tensor], Tensor], one: Tensor, other: Tensor) -> Tensor:
    """A function of tokens, of so many at a time, computed again in the backward pass rather than kept."""
    chunks = [tensor.split(CHUNK_TOKENS) for tensor in (one, other)]  # type: ignore[no-untyped-call]
    pairs = zip(*chunks, strict=True)
    found = [checkpoint(function, *pair, use_reentrant=False, preserve_rng_state=False) for pair in pairs]
    return torch.cat(found)


def _logps(logits: Tensor) -> Tensor:
    return logits.log_softmax(dim=-1)


def _kl(one: Tensor, other: Tensor) -> Tensor:
    """Of log-probabilities."""
    return (one.exp() * (one - other)).sum(dim=-1)
