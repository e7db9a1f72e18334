"""The types of the config keys of group `evaluate`: what a run tells of its model beside held-out losses. Values live
in `conf/`, like those of `schema`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswersConfig:
    """Answers to held-out rows, scored against the rows' own, at every evaluation."""

    metrics: list[str]
    """How they are scored; [] asks nothing."""
    by_set: dict[str, list[str]]
    """The same of some held-out sets, in place of `metrics`."""
    limit: int | None
    """Rows of each set that are asked, spread evenly over it; null asks all."""
    max_new_tokens: int
    """Longest answer, in tokens; one that would lead beyond `data.seq_len` ends there."""
    at_once: int
    """Rows that a GPU answers at a time; fewer take less memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """The model's own answers, at every evaluation."""

    prompts: Any
    """What is asked: a list of texts, or a file with one on each line (.jsonl: rows of `prompt`); [] asks nothing."""
    max_new_tokens: int
    """Longest answer to one of them, in tokens."""
    answers: AnswersConfig
    """Answers that are scored."""


def scored_sets(asks: AnswersConfig, sets: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The metrics of each held-out set (`eval` or `eval_NAME`) whose rows are answered."""
    found = {key: tuple(asks.by_set.get(key.removeprefix("eval_"), asks.metrics)) for key in sets}
    return {key: names for key, names in found.items() if names}
