"""Rows as questions: what the model is asked, and the answer that the row has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from launcher.data.feed.samples import Samples
from launcher.data.tokens import AnyArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One row, cut before its last answer."""

    sample: int
    """Number of the sample."""
    prompt: AnyArray
    """Tokens up to the answer; at least one, since nothing predicts a row's first token."""
    reference: AnyArray
    """Tokens of the answer that the row has."""


def question_of(samples: Samples, sample: int) -> Question:
    """The question of a sample: its row up to the last run of tokens that carry loss."""
    (row,) = samples.rows(sample)
    ids, trained = samples.store.row(row)
    stop = int(np.flatnonzero(trained)[-1]) + 1
    before = np.flatnonzero(~trained[:stop])
    start = int(before[-1]) + 1
    return Question(sample=sample, prompt=ids[:start], reference=ids[start:stop])
