"""Preference tuning from pairs of a better and a worse answer: DPO and the losses that followed it.

All of them are functions of four log-probabilities: of the better (w) and the worse (l) answer to a prompt, under the
model and, where they compare with it, under the untrained model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from launcher.data.source import Learns
from launcher.errors import Problem
from launcher.objectives.protocol import Needs, Per, Scored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from launcher.data.feed.batches import MicroBatch


class Loss(Enum):
    """Which loss."""

    dpo = "dpo"
    """-log sigmoid(β h), with h = log(π_w / ref_w) - log(π_l / ref_l) (Rafailov et al., arXiv:2305.18290, eq. 7)."""
    cdpo = "cdpo"
    """The same with a share `label_smoothing` of the pairs taken for swapped (Mitchell, "A note on DPO with noisy
    preferences", 2023)."""
    ipo = "ipo"
    """(h - 1 / (2 β))², with log-probabilities per token (Azar et al., arXiv:2310.12036, eq. 17)."""
    orpo = "orpo"
    """-log π_w + β · -log sigmoid(log odds_w - log odds_l), per token (Hong et al., arXiv:2403.07691, eq. 6 and 7)."""
    simpo = "simpo"
    """-log sigmoid(β (log π_w - log π_l) - gamma), per token (Meng et al., arXiv:2405.14734, eq. 6)."""


_REFERENCE = (Loss.dpo, Loss.cdpo, Loss.ipo)
_PER_TOKEN = (Loss.ipo, Loss.orpo, Loss.simpo)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Of `dpo`."""

    loss: Loss = Loss.dpo
    """Which loss."""
    beta: float = 0.1
    """How much the model may not move away from the untrained one; for orpo the weight of the odds, for simpo a scale
    (2 to 10)."""
    label_smoothing: float = 0.1
    """Share of swapped pairs; cdpo only."""
    gamma: float = 0.5
    """Margin; simpo only."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values."""
        if self.beta <= 0:
            yield Problem(where="beta", message=f"{self.beta} is out of range", valid="more than 0")
        if not 0 <= self.label_smoothing < 0.5:
            message = f"{self.label_smoothing} would have the worse answers preferred"
            yield Problem(where="label_smoothing", message=message, valid="0 to 0.5")
        if self.gamma < 0:
            yield Problem(where="gamma", message=f"{self.gamma} is out of range", valid="0 or more")


class Dpo:
    """One of these losses."""

    name = "dpo"
    measures = ("reward_accuracy", "reward_margin", "logp_better", "logp_worse")

    def __init__(self, options: Options) -> None:
        self._options = options
        self.needs = Needs(learns=Learns.pairs, per=Per.example, reference=options.loss in _REFERENCE)

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        """Sum of the loss over pairs."""
        from launcher.models.forward import row_logps

        logps, counts = row_logps(model, batch)
        reference = batch.reference
        if self._options.loss in _PER_TOKEN:
            logps = logps / counts
            reference = None if reference is None else reference / counts
        better, worse = logps.reshape(-1, 2).unbind(dim=1)
        if reference is None:
            assert not self.needs.reference, "the batch carries no log-probabilities of the untrained model"
            gap, losses = better - worse, self._without_reference(better, worse)
        else:
            reference_better, reference_worse = reference.reshape(-1, 2).unbind(dim=1)
            gap = (better - reference_better) - (worse - reference_worse)
            losses = self._against_reference(gap)
        rewards = self._options.beta * gap.detach()
        return Scored(
            loss_sum=losses.sum(),
            sums={
                "reward_accuracy": (rewards > 0).sum(),
                "reward_margin": rewards.sum(),
                "logp_better": better.detach().sum(),
                "logp_worse": worse.detach().sum(),
            },
        )

    def _against_reference(self, gap: Tensor) -> Tensor:
        """Losses per pair, from h."""
        from torch.nn.functional import logsigmoid

        beta, swapped = self._options.beta, self._options.label_smoothing
        if self._options.loss is Loss.ipo:
            return (gap - 1 / (2 * beta)) ** 2
        if self._options.loss is Loss.cdpo:
            return -(1 - swapped) * logsigmoid(beta * gap) - swapped * logsigmoid(-beta * gap)
        return -logsigmoid(beta * gap)

    def _without_reference(self, better: Tensor, worse: Tensor) -> Tensor:
        """Losses per pair, from log-probabilities per token."""
        from torch.nn.functional import logsigmoid

        beta = self._options.beta
        if self._options.loss is Loss.simpo:
            return -logsigmoid(beta * (better - worse) - self._options.gamma)
        odds = (better - _log1mexp(better)) - (worse - _log1mexp(worse))
        return -better - beta * logsigmoid(odds)

    def summarise(self, counts: list[float]) -> dict[str, float]:
        """None beside its measures."""
        return {}


def _log1mexp(value: Tensor) -> Tensor:
    """log(1 - exp(value)) for negative values; near 0, where that is -inf, as far as fp32 tells them apart."""
    import torch

    return torch.log(-torch.expm1(value.clamp(max=-1e-6)))


def build(options: Options) -> Dpo:
    """The objective."""
    return Dpo(options)
