"""Distributions over k tokens and one outcome more: that it is any of the others.

A teacher that is asked beforehand leaves no more than this of each distribution. Scaling the k up to a distribution of
their own would teach that nothing else is ever said (Anshumann et al., arXiv:2503.16870, show the bias); with the
others kept as one outcome (their "ghost token") the distributions of both models are only coarser. KL of coarser
distributions, whichever way round, and Jensen and Shannon's with it, are never more than those of the whole ones
(log sum inequality; Cover & Thomas, Elements of Information Theory, theorem 2.7.1), and the same where k is all tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from launcher.models.divergence import by_chunks


def outcomes(logits: Tensor, ids: Tensor) -> Tensor:
    """Natural logarithms of the probabilities of `ids` [tokens, k], and of all other tokens together.

    Of logits [tokens, vocabulary]; [tokens, k + 1], or [tokens, k] where there are no others.
    """
    return by_chunks(_outcomes, logits, ids)


def largest(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens: `outcomes` [tokens, k + 1], -inf last where there are no others, and ids [tokens, k]."""
    ids = by_chunks(lambda chunk, _: chunk.topk(k, dim=-1).indices, logits, logits)
    found = outcomes(logits, ids)
    nothing = found.new_full((len(found), k + 1 - found.shape[1]), -math.inf)
    return torch.cat([found, nothing], dim=1), ids


def _outcomes(logits: Tensor, ids: Tensor) -> Tensor:
    logps = logits.log_softmax(dim=-1)
    named = logps.gather(-1, ids)
    if ids.shape[-1] == logits.shape[-1]:
        return named
    # Not 1 less the named ones, which fp32 cannot tell from 0 where the teacher is sure.
    others = logps.scatter(-1, ids, -math.inf).logsumexp(dim=-1, keepdim=True)
    return torch.cat([named, others], dim=-1)
