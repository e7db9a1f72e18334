"""Answers are kept while many plans are made, and no longer."""

from __future__ import annotations

from launcher.remember import remembered, remembering

CALLS: list[int] = []


@remembered
def doubled(number: int) -> int:
    CALLS.append(number)
    return 2 * number


def test_equal_questions_are_answered_once_inside_and_anew_outside() -> None:
    CALLS.clear()
    with remembering():
        assert [doubled(1), doubled(1), doubled(2)] == [2, 2, 4]
        with remembering():
            doubled(1)
        doubled(2)
    assert CALLS == [1, 2]
    doubled(1)
    with remembering():
        doubled(1)
    assert CALLS == [1, 2, 1, 1]
