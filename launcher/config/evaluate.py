"""The types of the config keys of group `evaluate`: what a run tells of its model beside held-out losses. Values live
in `conf/`, like those of `schema`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Answers to fixed prompts, at every evaluation."""

    prompts: Any
    """What is asked: a list of texts, or a file with one on each line (.jsonl: rows of `prompt`); [] asks nothing."""
    max_new_tokens: int
    """Longest answer, in tokens."""
