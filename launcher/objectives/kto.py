"""Preference tuning from answers that are each called good or bad: KTO (Ethayarajh et al., arXiv:2402.01306)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.data.source import Learns
from launcher.errors import Problem
from launcher.objectives.protocol import Needs, Per, Scored

if TYPE_CHECKING:
    import torch

    from launcher.data.feed.batches import MicroBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Of `kto`."""

    beta: float = 0.1
    """How much the model may not move away from the untrained one."""
    desirable_weight: float = 1.0
    """λ_D, of good answers. Times their number it should be 1 to 4/3 of the same for bad ones (eq. 8)."""
    undesirable_weight: float = 1.0
    """λ_U, of bad answers."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values."""
        if self.beta <= 0:
            yield Problem(where="beta", message=f"{self.beta} is out of range", valid="more than 0")
        for name in ("desirable_weight", "undesirable_weight"):
            if getattr(self, name) < 0:
                yield Problem(where=name, message=f"{getattr(self, name)} is out of range", valid="0 or more")


class Kto:
    """λ_D (1 - sigmoid(β (r - z))) for good answers, λ_U (1 - sigmoid(β (z - r))) for bad ones (eq. 7).

    r = log(π / ref) of the answer. z, the reference point, is how far the model has moved on average: the mean
    log-ratio of answers that belong to other prompts, over the whole global batch or held-out set, and at least 0; no
    gradient goes through it. Over a micro batch alone it would depend on how the batch is cut.
    """

    name = "kto"
    needs = Needs(learns=Learns.judged, per=Per.example, reference=True, mismatched=True)
    measures = ("reward_accuracy", "reward_margin", "reference_point")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._point: torch.Tensor | None = None

    def look_all(self, model: torch.nn.Module, batches: Iterable[MicroBatch]) -> None:
        """Find the reference point."""
        import torch
        import torch.distributed as dist

        from launcher.models.forward import row_logps

        with torch.no_grad():
            parts = []
            for batch in batches:
                others = batch.mismatched
                assert others is not None, "the batch carries no answers of other prompts"
                assert others.reference is not None, "nor what the untrained model says of them"
                ratios = row_logps(model, others)[0] - others.reference
                parts.append(torch.stack([ratios.double().sum(), ratios.new_tensor(len(ratios)).double()]))
            total = torch.stack(parts).sum(dim=0)
            if dist.is_initialized():
                dist.all_reduce(total)
        self._point = (total[0] / total[1].clamp(min=1)).clamp(min=0).float()

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        """Sum of the loss over answers. A reward is how far an answer lies on its own side of the reference point."""
        from launcher.models.forward import row_logps

        assert self._point is not None, "nobody has looked at the step's batches"
        assert batch.reference is not None, "the batch carries no log-probabilities of the untrained model"
        logps, _ = row_logps(model, batch)
        good = batch.targets[:, 0] > 0.5
        sides = good.to(logps) * 2 - 1
        rewards = self._options.beta * sides * (logps - batch.reference - self._point)
        weights = good.to(logps) * self._options.desirable_weight + (~good).to(logps) * self._options.undesirable_weight
        return Scored(
            loss_sum=(weights * (-rewards).sigmoid()).sum(),
            sums={
                "reward_accuracy": (rewards.detach() > 0).sum(),
                "reward_margin": rewards.detach().sum(),
                "reference_point": self._point * len(logps),
            },
        )

    def summarise(self, counts: list[float]) -> dict[str, float]:
        """None beside its measures."""
        return {}


def build(options: Options) -> Kto:
    """The objective."""
    return Kto(options)
