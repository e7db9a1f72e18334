"""The user's function that judges answers: what it may give, and how its mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config.search import shipped
from launcher.errors import UserError
from launcher.train.reward import Judge

FILE = Path("/run/reward.py")


def judged(body: str) -> float:
    return Judge(f"def reward(prompt, answer, reference):\n    {body}\n", FILE)("ask", "say", "know")


def test_the_function_gets_texts_and_gives_a_number() -> None:
    assert judged("return (prompt, answer, reference) == ('ask', 'say', 'know')") == 1.0
    assert judged("return -3") == -3.0


@pytest.mark.parametrize("body", ["return float('nan')", "return float('inf')", "return None", "return 'much'"])
def test_what_is_no_number_is_refused_with_the_row(body: str) -> None:
    with pytest.raises(UserError, match="'ask' and the answer 'say'"):
        judged(body)


def test_an_error_is_told_with_its_line() -> None:
    with pytest.raises(UserError, match=r"ValueError: odd \(/run/reward.py, line 2\)"):
        judged("raise ValueError('odd')")


def test_a_file_without_the_function_or_that_fails_is_refused() -> None:
    with pytest.raises(UserError, match="has no function reward"):
        Judge("x = 1", FILE)
    with pytest.raises(UserError, match="ZeroDivisionError"):
        Judge("1 / 0", FILE)


@pytest.mark.parametrize(
    ("answer", "right"),
    [("It is 1,234.", 1), ("1234.0", 1), ("1234 or 1235", 0), ("-1234", 0), ("none", 0), ("so 3 and then 1234", 1)],
)
def test_the_shipped_function_compares_the_last_number(answer: str, right: float) -> None:
    file = shipped("recipes") / "rewards" / "numbers.py"
    assert Judge(file.read_text(), file)("How many?", answer, " 1234") == right
