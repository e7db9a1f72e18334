"""What a sweep's overrides leave open, as the space that members are drawn from: one axis for each key.

Owns how a point of an axis is written as an override, and how it is read from one. Knows no sampler.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.override_parser.types import Sweep as AnySweep

from launcher.config.schema import Config
from launcher.config.search import SearchPath
from launcher.config.sweep import MOST_MEMBERS, sorted_out, values_of
from launcher.decode import hints_of
from launcher.errors import Problem, UserError

LOG = "log"
"""The tag of an interval whose every order of magnitude is as likely as any other."""
FINE = 1e-5
"""What a drawn number is rounded to, as a share of how far it can vary: nobody reads 17 digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """An axis of certain values."""

    key: str
    """As it is typed, with its + or ++."""
    values: list[str]
    """Each as it is typed; a point is the place of one."""
    ordered: bool
    """Whether neighbours are alike: those of a range are, those of a list need not be."""

    def text(self, point: float) -> str:
        """The value at a point."""
        return self.values[int(point)]

    def point(self, text: str) -> float:
        """Where a value is; ValueError if it is nowhere."""
        return self.values.index(text)

    def anywhere(self, chance: random.Random) -> float:
        """A point, each as likely as any other."""
        return chance.randrange(len(self.values))


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An axis of numbers between two, which are whole if both ends are."""

    key: str
    """As it is typed, with its + or ++."""
    low: int | float
    """The least."""
    high: int | float
    """The greatest."""
    log: bool
    """Whether orders of magnitude are alike, in place of differences."""

    @property
    def whole(self) -> bool:
        """Whether only whole numbers count."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def text(self, point: float) -> str:
        """The number, rounded."""
        if self.whole:
            return str(int(point))
        span = self.high - self.low
        digits = -math.floor(math.log10(FINE * (min(span, point) if self.log else span)))
        return repr(min(max(round(float(point), digits), float(self.low)), float(self.high)))

    def point(self, text: str) -> float:
        """The number; ValueError if it is none, or lies outside."""
        number = int(text) if self.whole else float(text)
        if not self.low <= number <= self.high:
            raise ValueError(f"{number} lies outside {self.low} to {self.high}")
        return number

    def anywhere(self, chance: random.Random) -> float:
        """A point, each (or the magnitude of each) as likely as any other."""
        if self.whole and not self.log:
            return chance.randint(int(self.low), int(self.high))
        if not self.log:
            return chance.uniform(self.low, self.high)
        # A whole number stands for all that are nearest to it.
        half = 0.5 if self.whole else 0.0
        drawn = math.exp(chance.uniform(math.log(self.low - half), math.log(self.high + half)))
        return min(max(round(drawn) if self.whole else drawn, self.low), self.high)


Axis: TypeAlias = Values | Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """What `-m` asked for, where members are drawn."""

    fixed: list[str]
    """Overrides that all members share."""
    axes: list[Axis]
    """One for each other key, as they were typed."""

    @property
    def size(self) -> int | None:
        """How many different members there can be; None without an end."""
        size = 1
        for axis in self.axes:
            if isinstance(axis, Values):
                size *= len(axis.values)
            elif axis.whole:
                size *= int(axis.high) - int(axis.low) + 1
            else:
                return None
        return size

    def member(self, points: Sequence[float]) -> list[str]:
        """The overrides of a member that lies there."""
        return [f"{axis.key}={axis.text(point)}" for axis, point in zip(self.axes, points, strict=True)]

    def points(self, member: Sequence[str]) -> list[float]:
        """Where a member lies; ValueError if that is not in this space."""
        pairs = [text.split("=", 1) for text in member]
        if [key for key, _ in pairs] != [axis.key for axis in self.axes]:
            raise ValueError(f"{' '.join(member)} sets other keys")
        return [axis.point(value) for axis, (_, value) in zip(self.axes, pairs, strict=True)]


def space_of(overrides: Sequence[str], search: SearchPath) -> Space:
    """What the overrides leave open; UserError with everything that is wrong with them, or where that is nothing."""
    fixed, swept, problems = sorted_out(overrides)
    axes: list[Axis] = []
    for override in swept:
        axis = _axis(override, search)
        if isinstance(axis, Problem):
            problems.append(axis)
        else:
            axes.append(axis)
    if problems:
        raise UserError(*problems)
    return Space(fixed=fixed, axes=axes)


def _axis(override: Override, search: SearchPath) -> Axis | Problem:
    where, meant = str(override.input_line), override._value
    tags = set(meant.tags) if isinstance(meant, AnySweep) else set()
    foreign = sorted(tags - {LOG} if isinstance(meant, IntervalSweep) else tags)
    if foreign:
        message = f"tag({', '.join(foreign)}, …) means nothing here"
        return Problem(where=where, message=message, valid=f"tag({LOG}, interval(LOW, HIGH))")
    if isinstance(meant, IntervalSweep):
        return _interval(override, meant)
    if getattr(meant, "shuffle", False):
        message = "the sampler chooses the order, and shuffle() has another each time"
        return Problem(where=where, message=message, remedy="leave shuffle() out")
    values = values_of(override, search)
    if isinstance(values, Problem):
        return values
    if len(values) > MOST_MEMBERS:
        remedy = "write int(interval(FIRST, LAST)), or interval(LOW, HIGH)"
        return Problem(where=where, message=f"these are more than {MOST_MEMBERS:,} values", remedy=remedy)
    distinct = list(dict.fromkeys(values))
    return Values(key=override.get_key_element(), values=distinct, ordered=override.is_range_sweep())


def _is_whole(key: str) -> bool:
    """Whether the schema takes nothing but whole numbers there."""
    hint: Any = Config
    for name in key.split("."):
        hint = hints_of(hint).get(name) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None
    return hint in (int, int | None)


def _interval(override: Override, meant: IntervalSweep) -> Interval | Problem:
    where, low, high, log = str(override.input_line), meant.start, meant.end, LOG in meant.tags
    if low is None or high is None or not -math.inf < low < high < math.inf:
        return Problem(where=where, message=f"there is nothing between {low} and {high}", valid="interval(LOW, HIGH)")
    if log and low <= 0:
        message = f"{low} has no order of magnitude"
        return Problem(where=where, message=message, remedy=f"begin above 0, or leave tag({LOG}, …) out")
    if _is_whole(override.key_or_group):
        # interval(1, 8) are real numbers, and int(interval(1, 8)) what somebody meant who wrote it here.
        low, high = math.ceil(low), math.floor(high)
        if low >= high:
            message = f"there are no two whole numbers from {meant.start} to {meant.end}"
            return Problem(where=where, message=message, valid="interval(LOW, HIGH)")
    return Interval(key=override.get_key_element(), low=low, high=high, log=log)
