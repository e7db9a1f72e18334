"""Reward modelling: a score for an answer, learnt from pairs of a better and a worse one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.data.source import Learns
from launcher.errors import Problem
from launcher.objectives.protocol import Head, Needs, Per, Scored

if TYPE_CHECKING:
    import torch

    from launcher.data.feed.batches import MicroBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Of `reward`."""

    margin: float = 0.0
    """By how much the better answer's score should exceed the other's (Touvron et al., arXiv:2307.09288, 3.2.2)."""
    center: float = 0.01
    """Weight of the mean of (score + score)², which keeps scores around 0 (Eisenstein et al., arXiv:2312.09244)."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values."""
        for name in ("margin", "center"):
            if getattr(self, name) < 0:
                yield Problem(where=name, message=f"{getattr(self, name)} is out of range", valid="0 or more")


class Reward:
    """Bradley and Terry's model of choice (Biometrika 1952) over the scores of two answers."""

    name = "reward"
    needs = Needs(learns=Learns.pairs, per=Per.example, head=Head(outputs=1, problem_type="regression"))
    measures = ("accuracy", "margin", "score")

    def __init__(self, options: Options) -> None:
        self._options = options

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        """Sum over pairs of -log sigmoid(better - worse - margin) + center · (better + worse)²."""
        from torch.nn.functional import logsigmoid

        from launcher.models.forward import last_outputs

        better, worse = last_outputs(model, batch).reshape(-1, 2).unbind(dim=1)
        losses = -logsigmoid(better - worse - self._options.margin) + self._options.center * (better + worse) ** 2
        gap = (better - worse).detach()
        return Scored(
            loss_sum=losses.sum(),
            sums={
                "accuracy": (gap > 0).sum(),
                "margin": gap.sum(),
                "score": (better + worse).detach().sum() / 2,
            },
        )

    def summarise(self, counts: list[float]) -> dict[str, float]:
        """None beside its measures."""
        return {}


def build(options: Options) -> Reward:
    """The objective."""
    return Reward(options)
