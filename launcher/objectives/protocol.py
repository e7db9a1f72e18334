"""What the training loop asks of an objective. The loop knows no objective by name.

An objective is one module of this package: an `Options` dataclass, whose defaults are the objective's, and `build`,
which makes the objective of them. Both are there without torch, so that the login side can check what a user wrote;
what computes imports torch where it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from launcher.data.source import Learns
from launcher.errors import Problem

if TYPE_CHECKING:
    import torch

    from launcher.data.feed.batches import MicroBatch


class Per(Enum):
    """What an objective's loss is a mean over."""

    token = "token"
    """Tokens that carry loss."""
    example = "example"
    """Examples: texts with a label, or pairs of answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What stands in place of the language model's head: a linear layer on each token's last hidden state."""

    outputs: int
    """Numbers per token."""
    labels: tuple[str, ...] = ()
    """Their names; none where they are no classes."""
    problem_type: str | None = None
    """In transformers' words: regression, single_label_classification or multi_label_classification."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What an objective needs beside the model and its rows."""

    learns: Learns = Learns.answers
    """What a row is."""
    per: Per = Per.token
    """What its loss is a mean over."""
    head: Head | None = None
    """None keeps the language model's own."""
    reference: bool = False
    """Whether it compares with the log-probabilities of the untrained model (`MicroBatch.reference`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """A micro batch, scored."""

    loss_sum: torch.Tensor
    """Sum (not mean) of the loss over what `Needs.per` counts: a scalar, fp32, differentiable."""
    sums: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """The same of each of the objective's `measures`, without gradients."""
    counts: torch.Tensor | None = None
    """What `summarise` works on, in evaluations: float64 [any], to be added up."""


class Objective(Protocol):
    """One way to score a model on a micro batch."""

    name: str
    """As users type it."""
    needs: Needs
    """What it must be given."""
    measures: tuple[str, ...]
    """Names of what is logged beside the loss, as a mean over the same."""

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        """The micro batch's part of the loss, and of everything else that is told.

        The loop divides by the count of the whole global batch, so that the result does not depend on how the batch
        is cut into ranks and micro batches.
        """
        ...

    def summarise(self, counts: list[float]) -> dict[str, float]:
        """Metrics of a held-out set from the sum of its `Scored.counts`; empty where there are none. An attribute
        `summaries` names them, where there are any.
        """
        ...


class Options(Protocol):
    """What a user may set of an objective: a frozen dataclass."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values; `where` is the field's name."""
        ...


class Module(Protocol):
    """What a module of this package holds."""

    Options: type[Any]
    """Of these `Options`."""

    def build(self, options: Any) -> Objective:
        """The objective with these options."""
        ...
