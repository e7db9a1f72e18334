"""Distillation: a model learns what a teacher, asked about the same tokens, would have said next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from launcher.errors import Problem
from launcher.objectives.protocol import PATH, Judges, Needs, Scored, Teacher

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from launcher.data.feed.batches import MicroBatch


class Loss(Enum):
    """Which divergence of the two models' distributions."""

    forward = "forward"
    """KL(teacher ‖ student) (Hinton et al., arXiv:1503.02531)."""
    reverse = "reverse"
    """KL(student ‖ teacher) (Gu et al., arXiv:2306.08543)."""
    jsd = "jsd"
    """Jensen and Shannon's, generalised by `beta` (Agarwal et al., arXiv:2306.13649, eq. 1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Of `distill`."""

    teacher: str = field(default="", metadata=PATH)
    """A folder or hub id, of a model with the same vocabulary."""
    teacher_revision: str | None = None
    """Of the hub."""
    teacher_parameters: int | None = None
    """How many it has, for planning where its config.json is not at hand."""
    loss: Loss = Loss.forward
    """Which divergence."""
    temperature: float = 1.0
    """What both models' logits are divided by. The divergence is multiplied by its square, which keeps the size of the
    gradient (Hinton et al., section 2)."""
    beta: float = 0.5
    """The teacher's share of the mixture; jsd only. Near 0 it is like forward, near 1 like reverse, times beta or
    1 - beta."""
    hard: float = 0.0
    """Share of the loss that is the cross-entropy of the row's own tokens."""
    top_k: int | None = None
    """Ask the teacher once about every row, before the first step, and keep so many of each token's probabilities, the
    largest; all others count as one outcome (`launcher.models.largest`). null holds it in memory, and compares all."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values."""
        if not self.teacher:
            yield Problem(
                where="teacher",
                message="there is nobody to learn from",
                valid="objective.options.teacher=FOLDER, or a hub id (ORG/NAME)",
            )
        if self.teacher_parameters is not None and self.teacher_parameters <= 0:
            yield Problem(where="teacher_parameters", message="a model has some", valid="a count, or null")
        if self.temperature <= 0:
            yield Problem(where="temperature", message=f"{self.temperature} is out of range", valid="more than 0")
        if not 0 < self.beta < 1:
            yield Problem(
                where="beta",
                message=f"{self.beta} leaves no mixture of the two",
                valid="between 0 and 1",
                remedy="write objective.options.loss=forward or reverse for the ends",
            )
        if not 0 <= self.hard < 1:
            yield Problem(where="hard", message=f"{self.hard} is not a share", valid="0 to 1, and less than 1")
        if self.top_k is not None and self.top_k < 1:
            yield Problem(where="top_k", message=f"{self.top_k} probabilities are none", valid="1 or more, or null")


class Distill:
    """(1 - hard) · temperature² · divergence + hard · cross-entropy, on every trained token."""

    name = "distill"
    measures = ("divergence", "cross_entropy", "token_accuracy")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._teacher: Judges | None = None
        self.needs = Needs(teacher=_teacher(options))

    def learn_from(self, teacher: Judges) -> None:
        """Keep the teacher."""
        self._teacher = teacher

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        """Sum over trained tokens; `divergence` is told as the loss has it, temperature² included."""
        from torch.nn.functional import cross_entropy

        from launcher.models.forward import trained_logits

        hard = self._options.hard
        judged = None if self._options.top_k is not None else self._judged(batch)
        logits, targets, _ = trained_logits(model, batch)
        divergence = self._divergence(batch, judged, logits).sum()
        surprise = cross_entropy(logits if hard else logits.detach(), targets, reduction="sum")
        return Scored(
            loss_sum=(1 - hard) * divergence + hard * surprise if hard else divergence,
            sums={
                "divergence": divergence.detach(),
                "cross_entropy": surprise.detach(),
                "token_accuracy": (logits.detach().argmax(dim=-1) == targets).sum(),
            },
        )

    def _judged(self, batch: MicroBatch) -> Tensor:
        """What the teacher says now: logits [tokens, vocabulary]."""
        assert self._teacher is not None, "nobody brought the teacher"
        judged = self._teacher(batch)
        return judged if self._options.temperature == 1 else judged / self._options.temperature

    def _divergence(self, batch: MicroBatch, teacher: Tensor | None, student: Tensor) -> Tensor:
        """Per token, from logits [tokens, vocabulary]; without the teacher's, from what it said beforehand."""
        from launcher.models.divergence import forward_kl, jensen_shannon, reverse_kl
        from launcher.models.largest import outcomes

        options = self._options
        if options.temperature != 1:
            student = student / options.temperature
        if teacher is None:
            assert batch.largest is not None, "the batch carries nothing that the teacher said"
            student = outcomes(student, batch.largest.ids.long())
            teacher = batch.largest.logps[:, : student.shape[1]]
        # Log-probabilities are logits as good as any.
        if options.loss is Loss.jsd:
            found = jensen_shannon(teacher, student, options.beta)
        else:
            found = forward_kl(teacher, student) if options.loss is Loss.forward else reverse_kl(teacher, student)
        return options.temperature**2 * found

    def summarise(self, counts: list[float]) -> dict[str, float]:
        """None beside its measures."""
        return {}


def _teacher(options: Options) -> Teacher:
    return Teacher(
        path=options.teacher,
        revision=options.teacher_revision,
        parameters=options.teacher_parameters,
        top_k=options.top_k,
        temperature=options.temperature,
    )


def build(options: Options) -> Distill:
    """The objective."""
    return Distill(options)
