"""Supervised fine-tuning: next-token cross-entropy on the answer tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.errors import Problem
from launcher.objectives.protocol import Judges, Needs, Scored, Teacher

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
    kl: float = 0.0
    """Weight of KL(untrained ‖ model) on every trained token, against forgetting: what the untrained model would have
    said there stays likely (Li & Hoiem, arXiv:1606.09282, eq. 2). Holds a frozen copy of the model; 0 holds none."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values."""
        if not 0 <= self.label_smoothing < 1:
            yield Problem(where="label_smoothing", message=f"{self.label_smoothing} is not a share", valid="0 to 1")
        for name in ("neftune_alpha", "kl"):
            if getattr(self, name) < 0:
                yield Problem(where=name, message=f"{getattr(self, name)} is out of range", valid="0 or more")


class Sft:
    """Cross-entropy of the tokens whose label is not `IGNORED`."""

    name = "sft"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._teacher: Judges | None = None
        self.needs = Needs(teacher=Teacher() if options.kl else None)
        self.measures = ("token_accuracy", "kl") if options.kl else ("token_accuracy",)

    def learn_from(self, teacher: Judges) -> None:
        """Keep the untrained model."""
        self._teacher = teacher

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        """Sum of -log p(token | tokens before it), natural logarithm, over trained tokens; and of the divergence."""
        from torch.nn.functional import cross_entropy

        from launcher.models.divergence import forward_kl
        from launcher.models.forward import in_training, trained_logits
        from launcher.models.noise import noisy_embeddings

        with noisy_embeddings(model, batch, self._options.neftune_alpha):
            logits, targets, _ = trained_logits(model, batch)
        # Held-out losses are compared with those of other settings.
        training = in_training(model)
        smoothing = self._options.label_smoothing if training else 0.0
        loss = cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
        sums = {"token_accuracy": (logits.detach().argmax(dim=-1) == targets).sum()}
        if self._options.kl:
            assert self._teacher is not None, "nobody brought the untrained model"
            divergence = forward_kl(self._teacher(batch), logits).sum()
            sums["kl"] = divergence.detach()
            loss = loss + self._options.kl * divergence if training else loss
        return Scored(loss_sum=loss, sums=sums)

    def summarise(self, counts: list[float]) -> dict[str, float]:
        """None beside its measures."""
        return {}


def build(options: Options) -> Sft:
    """The objective."""
    return Sft(options)
