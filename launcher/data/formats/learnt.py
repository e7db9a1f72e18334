"""What a row is to the objective: what is encoded of it, and what it is labelled with.

Owns the match between row shapes and objectives. Must not know tokens or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.data.formats.shapes import Conversation, Example, Judged, Labelled, PlainText, Preference
from launcher.data.reject import RowError, Step
from launcher.data.source import Learns

_MOST_NAMES = 8


@dataclass(kw_only=True, slots=True)
class Learnt:
    """One example."""

    conversations: tuple[Conversation, ...]
    """What is encoded, each as a row of its own: an answer, perhaps a bad one; a better and a worse one; or a
    text."""
    target: tuple[float, ...] = ()
    """What it is labelled with."""


def learnt(example: Example, learns: Learns, labels: Sequence[str] = ()) -> Learnt:
    """The example as the objective takes it; RowError where it is of another kind, or its label of no class."""
    if learns is Learns.answers and isinstance(example, Conversation):
        # Nearly all there are.
        return Learnt(conversations=(example,))
    if learns.labels_texts:
        if not isinstance(example, Labelled):
            raise RowError(
                "the row holds no label, and the objective learns labels",
                remedy="name the columns: {path: FILE, columns: {text: review, label: stars}}",
            )
        text = Conversation(plain=PlainText(prompt="", completion=example.text))
        return Learnt(conversations=(text,), target=_target(example, learns, labels))
    if learns is Learns.pairs:
        if not isinstance(example, Preference):
            raise RowError(
                "the row holds one text, and the objective chooses between two answers",
                remedy="name the columns: {path: FILE, columns: {prompt: question, chosen: good, rejected: bad}}",
            )
        return Learnt(conversations=(example.chosen, example.rejected))
    if learns is Learns.judged:
        if not isinstance(example, Judged):
            raise RowError(
                "the row does not say whether its answer is good or bad, and the objective learns from that",
                remedy="name the columns: {path: FILE, columns: {prompt: question, completion: answer, label: liked}}",
            )
        return Learnt(conversations=(example.conversation,), target=(float(example.good),))
    if isinstance(example, Judged):
        remedy = (
            "train on all answers, bad ones among them, with columns: {prompt: prompt, completion: completion}, or "
        )
        remedy += "with objective=kto"
        raise RowError("the row holds an answer that may be a bad one, not one to learn", remedy=remedy)
    if isinstance(example, Preference):
        remedy = "train on the better answers with columns: {prompt: prompt, completion: chosen}, or with objective=dpo"
        raise RowError("the row holds two answers to choose between, not one to learn", remedy=remedy)
    if isinstance(example, Labelled):
        remedy = (
            "train on the label with columns: {prompt: text, completion: label}, on the text with format: text, or "
            "with objective=classify"
        )
        raise RowError("the row holds a text and its label, not an answer to learn", remedy=remedy)
    return Learnt(conversations=(example,))


def _target(example: Labelled, learns: Learns, labels: Sequence[str]) -> tuple[float, ...]:
    label = example.label
    if learns is Learns.values:
        return (_number(label),)
    if learns is Learns.sets:
        several = label if isinstance(label, tuple) else (label,)
        places = {_place(one, labels) for one in several}
        return tuple(float(place in places) for place in range(len(labels)))
    if isinstance(label, tuple):
        if len(label) != 1:
            raise RowError(
                f"it has {len(label)} labels, and the objective learns one class a text",
                remedy="set objective.options.kind=multi",
                step=Step.label,
            )
        label = label[0]
    return (float(_place(label, labels)),)


def _place(label: str | int | float, labels: Sequence[str]) -> int:
    name = str(label)
    if name not in labels:
        valid = ", ".join(labels[:_MOST_NAMES]) + ("…" if len(labels) > _MOST_NAMES else "")
        raise RowError(f"its label {name!r} is none of objective.options.labels", valid=valid, step=Step.label)
    return labels.index(name)


def _number(label: str | int | float | tuple[str | int | float, ...]) -> float:
    if isinstance(label, int | float) and not isinstance(label, bool) and math.isfinite(label):
        return float(label)
    raise RowError(f"its label {label!r} is no number", step=Step.label)
