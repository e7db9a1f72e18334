"""What the training loop asks of an objective. The loop knows no objective by name.

An objective is one module of this package: an `Options` dataclass, whose defaults are the objective's, and `build`,
which makes the objective of them. Both are there without torch, so that the login side can check what a user wrote;
what computes imports torch where it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from launcher.data.source import Learns
from launcher.errors import Problem

if TYPE_CHECKING:
    import torch

    from launcher.data.feed.batches import MicroBatch


PATH = {"path": True}
"""Metadata of an option that names a folder, or a model of the hub."""


class Sampler(Enum):
    """What draws a model's answers."""

    auto = "auto"
    """vLLM where ranks compute on GPUs, it is installed and it can, else transformers; a plan says which."""
    transformers = "transformers"
    """The model that trains, pass by pass."""
    vllm = "vllm"
    """vLLM, beside it on the same GPUs and with its weights."""


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
class Teacher:
    """A model that does not learn, and that the one in training is compared with."""

    path: str | None = None
    """A folder or hub id; None is the untrained model itself."""
    revision: str | None = None
    """Of the hub."""
    parameters: int | None = None
    """How many it has, for planning where its config.json is not at hand."""
    top_k: int | None = None
    """It is asked once, before the first step, and let go of: so many log-probabilities of each trained token are kept
    (`MicroBatch.largest`). None holds it, and asks it in every step."""
    temperature: float = 1.0
    """What its logits are divided by when it is asked once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollouts:
    """What the model in training is to say, between steps, for the objective to learn from it."""

    reward: str
    """Python file with `reward(prompt, answer, reference)`, of which a run keeps a copy, or the folder of a reward
    model. The value of an option of that name."""
    group: int
    """Answers to each question."""
    updates: int
    """Optimiser steps whose answers are given at once, before the first of them."""
    max_new_tokens: int
    """Longest answer; one that would lead beyond `data.seq_len` ends there."""
    temperature: float
    """What logits are divided by before a token is drawn."""
    eval_temperature: float
    """The same where held-out questions are answered; 0 takes the likeliest token."""
    at_once: int
    """Answers that a GPU gives at a time."""
    sampler: Sampler
    """What draws them; never `auto` in a plan."""
    vllm_memory: float
    """Share of a GPU's memory that vLLM takes while it answers."""
    vllm_tensor_parallel: int
    """Neighbouring ranks that hold one of vLLM's engines in parts."""
    untrained: bool
    """Whether the untrained model is held beside the one in training, to say what it thinks of the answers."""

    @property
    def by_model(self) -> bool:
        """Whether a model judges, and no function."""
        return not self.reward.endswith(".py")


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
    mismatched: bool = False
    """Whether it wants prompts with the answers of others (`MicroBatch.mismatched`)."""
    teacher: Teacher | None = None
    """The model that it compares every token's distribution with; it is then a `Taught`, unless that is asked once."""
    rollouts: Rollouts | None = None
    """Answers of the model's own (`MicroBatch.played`), in place of those in the rows; such an objective is a
    `Player`, and its loss a mean over answers."""

    @property
    def answers(self) -> int:
        """Sequences that a step learns from for each sample that it is fed."""
        return self.rollouts.group if self.rollouts is not None else 1

    @property
    def unit(self) -> int:
        """Steps that belong together: nothing is saved or evaluated, and no run stops, between them."""
        return self.rollouts.updates if self.rollouts is not None else 1


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


Judges: TypeAlias = "Callable[[MicroBatch], torch.Tensor]"
"""What a teacher says of each trained token: fp32 [trained, vocabulary], without gradients. Collective under ZeRO-3."""


@runtime_checkable
class Taught(Protocol):
    """An objective that is given a teacher, before anything is scored."""

    def learn_from(self, teacher: Judges) -> None:
        """Keep the teacher."""
        ...


@runtime_checkable
class Looking(Protocol):
    """An objective that looks at all batches of a step, or of an evaluation, before the first of them is scored."""

    def look_all(self, model: torch.nn.Module, batches: Iterable[MicroBatch]) -> None:
        """Without gradients, over all ranks; `batches` are this rank's, as many and in the same order as scored."""


class Player(Objective, Protocol):
    """An objective with `Needs.rollouts`."""

    def advantages(self, rewards: torch.Tensor, divergences: torch.Tensor) -> torch.Tensor:
        """By how much each answer is better than could be expected: float64 [questions, group], as are both arguments.

        `divergences` are log p(answer) under the model that gave it, less the same under the untrained one; 0 where
        that is not asked.
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
