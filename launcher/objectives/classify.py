"""Task heads: which class a text belongs to, which classes, or which number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from launcher.data.source import Learns
from launcher.errors import Problem
from launcher.objectives.protocol import Head, Needs, Per, Scored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from launcher.data.feed.batches import MicroBatch

BINS = 10
"""Of confidence, for the calibration error."""


class Kind(Enum):
    """What is told of a text."""

    single = "single"
    """One class."""
    multi = "multi"
    """Any number of classes."""
    regression = "regression"
    """A number."""


_LEARNS = {Kind.single: Learns.classes, Kind.multi: Learns.sets, Kind.regression: Learns.values}
_PROBLEM_TYPES = {
    Kind.single: "single_label_classification",
    Kind.multi: "multi_label_classification",
    Kind.regression: "regression",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Of `classify`."""

    kind: Kind = Kind.single
    """What is told of a text."""
    labels: tuple[str, ...] = ()
    """The classes, in the order in which the model's outputs stand for them."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values."""
        if self.kind is Kind.regression:
            if self.labels:
                yield Problem(where="labels", message="a number has no classes", remedy="leave it out")
        elif len(set(self.labels)) < 2 or len(set(self.labels)) != len(self.labels):
            yield Problem(
                where="labels",
                message=f"{list(self.labels)} are not the names of two classes or more",
                valid="objective.options.labels=[negative,positive]",
            )


class Classify:
    """Cross-entropy over classes, binary cross-entropy for each class, or squared error."""

    name = "classify"
    summaries: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self._kind = options.kind
        self._labels = options.labels
        head = Head(outputs=len(options.labels) or 1, labels=options.labels, problem_type=_PROBLEM_TYPES[options.kind])
        self.needs = Needs(learns=_LEARNS[options.kind], per=Per.example, head=head)
        if options.kind is not Kind.regression:
            self.summaries = ("f1_macro", "f1_micro", "calibration_error")
        self.measures = ("absolute_error",) if options.kind is Kind.regression else ("accuracy",)

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        """Sum of the loss over texts, natural logarithm; `counts` are what `summarise` takes."""
        from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

        from launcher.models.forward import last_outputs

        outputs, targets = last_outputs(model, batch), batch.targets
        if self._kind is Kind.regression:
            error = (outputs - targets).detach().abs().sum()
            return Scored(loss_sum=mse_loss(outputs, targets, reduction="sum"), sums={"absolute_error": error})
        if self._kind is Kind.multi:
            # A mean over classes, so that their number does not set the learning rate.
            losses = binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(dim=1)
            chosen, confidence = outputs.detach() > 0, outputs.detach().sigmoid()
            right = (chosen == (targets > 0.5)).all(dim=1)
            counts = _counts(chosen, targets > 0.5, confidence.reshape(-1), (targets > 0.5).reshape(-1))
            return Scored(loss_sum=losses.sum(), sums={"accuracy": right.sum()}, counts=counts)
        classes = targets[:, 0].long()
        confidence, found = outputs.detach().softmax(dim=1).max(dim=1)
        chosen, truth = _one_hot(found, outputs.shape[1]), _one_hot(classes, outputs.shape[1])
        counts = _counts(chosen, truth, confidence, found == classes)
        loss = cross_entropy(outputs, classes, reduction="sum")
        return Scored(loss_sum=loss, sums={"accuracy": (found == classes).sum()}, counts=counts)

    def summarise(self, counts: list[float]) -> dict[str, float]:
        """F1 as the mean over classes (macro) and over decisions (micro), and the expected calibration error.

        F1 is 2·TP / (2·TP + FP + FN), 0 for a class that nobody chose and nothing is. The calibration error is the
        mean distance of confidence and truth over bins of confidence (Guo et al., arXiv:1706.04599, eq. 3).
        """
        size = len(self._labels)
        hits, chosen, truth = counts[:size], counts[size : 2 * size], counts[2 * size : 3 * size]
        bins = counts[3 * size :]
        texts, confidence, right = bins[:BINS], bins[BINS : 2 * BINS], bins[2 * BINS :]
        each = [_f1(*numbers) for numbers in zip(hits, chosen, truth, strict=True)]
        return {
            "f1_macro": sum(each) / size,
            "f1_micro": _f1(sum(hits), sum(chosen), sum(truth)),
            "calibration_error": sum(abs(one - other) for one, other in zip(confidence, right, strict=True))
            / max(sum(texts), 1.0),
        }


def _f1(hits: float, chosen: float, truth: float) -> float:
    return 2 * hits / (chosen + truth) if chosen + truth else 0.0


def _one_hot(classes: Tensor, size: int) -> Tensor:
    from torch.nn.functional import one_hot

    return one_hot(classes, size) > 0


def _counts(chosen: Tensor, truth: Tensor, confidence: Tensor, right: Tensor) -> Tensor:
    """Per class: hits, choices, occurrences; then per bin: decisions, their confidence, and how many were right."""
    import torch
    from torch.nn.functional import one_hot

    classes = torch.stack([(chosen & truth).sum(dim=0), chosen.sum(dim=0), truth.sum(dim=0)]).reshape(-1).double()
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    values = torch.stack([torch.ones_like(confidence), confidence, right.to(confidence)]).double()
    return torch.cat([classes, (values @ one_hot(bins, BINS).double()).reshape(-1)])


def build(options: Options) -> Classify:
    """The objective."""
    return Classify(options)
