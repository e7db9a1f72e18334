"""A row as a question: everything up to its last answer."""

from __future__ import annotations

from launcher.data.feed.samples import Samples
from launcher.train.questions import question_of
from tests.data.conftest import MakeStore, make_store

__all__ = ["make_store"]


def test_a_question_is_what_comes_before_the_last_answer(make_store: MakeStore) -> None:
    rows = [
        ([5, 6, 7, 8], [False, False, True, True]),
        ([1, 2, 3, 4, 5, 6], [False, True, False, False, True, False]),
    ]
    samples = Samples(make_store(rows), packed=False)
    first, second = (question_of(samples, number) for number in range(2))
    assert (first.prompt.tolist(), first.reference.tolist()) == ([5, 6], [7, 8])
    assert (second.prompt.tolist(), second.reference.tolist()) == ([1, 2, 3, 4], [5])
