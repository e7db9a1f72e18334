"""Supervised fine-tuning: next-token cross-entropy on the answer tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.errors import Problem
from launcher.objectives.protocol import Needs, Scored

if TYPE_CHECKING:
    import torch

    from launcher.data.feed.batches import MicroBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Of `sft`."""

    label_smoothing: float = 0.0
    """Share of a token's probability that is spread over the vocabulary (Szegedy et al., arXiv:1512.00567)."""
    neftune_alpha: float = 0.0
    """Size of the noise on embeddings in training (Jain et al., arXiv:2310.05914); 5 is usual, 0 is none."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values."""
        if not 0 <= self.label_smoothing < 1:
            yield Problem(where="label_smoothing", message=f"{self.label_smoothing} is not a share", valid="0 to 1")
        if self.neftune_alpha < 0:
            yield Problem(where="neftune_alpha", message=f"{self.neftune_alpha} is out of range", valid="0 or more")


class Sft:
    """Cross-entropy of the tokens whose label is not `IGNORED`."""

    name = "sft"
    needs = Needs()
    measures = ("token_accuracy",)

    def __init__(self, options: Options) -> None:
        self._options = options

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        """Sum of -log p(token | tokens before it), natural logarithm, over trained tokens."""
        from torch.nn.functional import cross_entropy

        from launcher.models.forward import trained_logits
        from launcher.models.noise import noisy_embeddings

        with noisy_embeddings(model, batch, self._options.neftune_alpha):
            logits, targets, _ = trained_logits(model, batch)
        # Held-out losses are compared with those of other settings.
        smoothing = self._options.label_smoothing if model.training else 0.0
        right = (logits.detach().argmax(dim=-1) == targets).sum()
        loss = cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
        return Scored(loss_sum=loss, sums={"token_accuracy": right})

    def summarise(self, counts: list[float]) -> dict[str, float]:
        """None beside its measures."""
        return {}


def build(options: Options) -> Sft:
    """The objective."""
    return Sft(options)
