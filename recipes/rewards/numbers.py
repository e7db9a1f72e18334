"""A reward for questions that a number answers: 1 where the last number said is the one that is looked for, else 0."""

from __future__ import annotations

import re
from fractions import Fraction

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def reward(prompt: str, answer: str, reference: str) -> float:
    """`prompt` is the question as the model read it, `reference` the answer that the row has."""
    said, wanted = last_number(answer), last_number(reference)
    return float(said is not None and said == wanted)


def last_number(text: str) -> Fraction | None:
    """None where there is none. Commas between digits are left out, so that 1,234.0 is 1234."""
    found = NUMBER.findall(text)
    return Fraction(found[-1].replace(",", "")) if found else None
