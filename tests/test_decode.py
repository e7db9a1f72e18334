from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from launcher.decode import BROKEN, decode, read
from launcher.errors import Problem


class Colour(Enum):
    red = "red"
    green = "green"


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    size: int
    share: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    name: str
    colour: Colour
    inner: Inner
    maybe: Inner | None
    sizes: list[int]
    pairs: tuple[Inner, ...]
    table: dict[str, str]
    free: Any


GOOD: dict[str, Any] = {
    "name": "x",
    "colour": "green",
    "inner": {"size": 1, "share": 2},
    "maybe": None,
    "sizes": [1, 2],
    "pairs": [{"size": 3, "share": None}],
    "table": {"a": "b"},
    "free": {"any": ["thing"]},
}


def problems_of(changes: dict[str, Any], hint: type = Outer) -> list[Problem]:
    problems: list[Problem] = []
    assert read(hint, {**GOOD, **changes}, "", problems) is BROKEN
    return problems


def test_plain_values_become_the_dataclass() -> None:
    outer = decode(Outer, GOOD)
    assert outer.colour is Colour.green
    assert outer.inner == Inner(size=1, share=2.0)
    assert isinstance(outer.inner.share, float)
    assert outer.pairs == (Inner(size=3, share=None),)
    assert outer.free == {"any": ["thing"]}


def test_every_mistake_is_reported_at_once() -> None:
    wrong = {"inner": {"size": "big", "shape": 1, "share": None}, "colour": "gren", "sizes": 3}
    assert sorted(problem.where for problem in problems_of(wrong)) == ["colour", "inner.shape", "inner.size", "sizes"]


def test_an_unknown_key_names_the_closest_one_first() -> None:
    (problem,) = problems_of({"colur": "red"})
    assert problem.valid.startswith("colour")
    assert problem.remedy == "write colour"


def test_an_unknown_choice_names_the_closest_one_first() -> None:
    (problem,) = problems_of({"colour": "gren"})
    assert problem.valid == "green, red"


@pytest.mark.parametrize("value", [True, 1.5, "1", None])
def test_only_whole_numbers_are_whole_numbers(value: Any) -> None:
    (problem,) = problems_of({"sizes": [1, value]})
    assert problem.where == "sizes[1]"


@pytest.mark.parametrize("text", ["1e-5", "5.0e-6", "3"])
def test_a_number_that_yaml_reads_as_text_is_a_number(text: str) -> None:
    assert decode(Inner, {"size": 1, "share": text}).share == float(text)


def test_a_number_is_taken_as_text_where_text_is_wanted() -> None:
    assert decode(Outer, {**GOOD, "name": 7}).name == "7"


def test_a_value_that_is_still_required_says_how_to_give_it() -> None:
    (problem,) = problems_of({"name": "???"})
    assert problem.remedy == "add name=VALUE"


def test_a_key_that_is_missing_is_named() -> None:
    problems: list[Problem] = []
    read(Inner, {"size": 1}, "inner", problems)
    assert [problem.where for problem in problems] == ["inner.share"]


def test_a_wrong_value_in_what_we_wrote_ourselves_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="is not a whole number"):
        decode(Inner, {"size": None, "share": None})
