"""A sweep's overrides to those of each member, in Hydra's grammar, and their configs without composing each anew.

Owns which overrides sweep and in which order members come. A member's config is exactly what `compose` gives for its
overrides; members that differ only in values share one composition.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Glob, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from launcher.config.compose import (
    REFUSALS,
    Composed,
    compose,
    composed_tree,
    decode_config,
    opened,
    parse,
)
from launcher.config.schema import Config
from launcher.config.search import SearchPath
from launcher.decode import read_field
from launcher.errors import Problem, UserError

MOST_MEMBERS = 10_000
"""More are a slip of the keyboard: a range that was meant to have a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """What `-m` asked for."""

    fixed: list[str]
    """Overrides that all members share."""
    members: list[list[str]]
    """The swept overrides of each member, one value for each key; the last key changes fastest."""

    def overrides(self, index: int) -> list[str]:
        """All overrides of member `index`, as `launcher plan` takes them."""
        return [*self.fixed, *self.members[index]]


def expand(overrides: Sequence[str], search: SearchPath) -> Sweep:
    """The members of a sweep; UserError with everything that is wrong with its grammar, and where nothing sweeps."""
    fixed, swept, problems = sorted_out(overrides)
    axes: list[list[str]] = []
    for override in swept:
        values = values_of(override, search)
        if isinstance(values, Problem):
            problems.append(values)
        else:
            axes.append([f"{override.get_key_element()}={value}" for value in values])
    count = math.prod(len(axis) for axis in axes)
    if count > MOST_MEMBERS:
        message = f"that would be {count:,} members"
        problems.append(Problem(where="-m", message=message, valid=f"at most {MOST_MEMBERS:,}"))
    if problems:
        raise UserError(*problems)
    return Sweep(fixed=fixed, members=[list(member) for member in itertools.product(*axes)])


def sorted_out(overrides: Sequence[str]) -> tuple[list[str], list[Override], list[Problem]]:
    """What stays as it is typed, what sweeps, and what is wrong with it so far."""
    problems: list[Problem] = []
    fixed: list[str] = []
    swept: list[Override] = []
    for text in overrides:
        override = parse(text, sweeps=True)
        if isinstance(override, Problem):
            problems.append(override)
        elif override.is_sweep_override():
            swept.append(override)
        else:
            fixed.append(text)
    problems += _wrong_together(fixed, [_key(override.get_key_element()) for override in swept])
    return fixed, swept, problems


def values_of(override: Override, search: SearchPath) -> list[str] | Problem:
    """The values of one key, each as it is typed."""
    where = str(override.input_line)
    glob = override._value
    if isinstance(glob, Glob):
        if override.key_or_group not in search.groups():
            return Problem(
                where=where,
                message=f"glob() chooses among the files of a group, and {override.key_or_group} is a value",
                valid="; ".join(search.groups()),
                remedy="list the values, with commas",
            )
        values = glob.filter(search.choices(override.key_or_group))
    elif not override.is_discrete_sweep():
        remedy = "write range(START,STOP,STEP), or list the values, with commas, or have members drawn: --trials N"
        return Problem(where=where, message="an interval has no end of values", remedy=remedy)
    elif isinstance(glob, RangeSweep) and not glob.step:
        return Problem(where=where, message="a range of steps of 0 has no end", remedy="write range(START,STOP,STEP)")
    else:
        values = list(itertools.islice(override.sweep_string_iterator(), MOST_MEMBERS + 1))
    if not values:
        return Problem(where=where, message="no value is meant by that", valid=", ".join(_choices(override, search)))
    return list(map(str, values))


def _choices(override: Override, search: SearchPath) -> list[str]:
    return search.choices(override.key_or_group) if override.key_or_group in search.groups() else []


def _wrong_together(fixed: Sequence[str], keys: Sequence[str]) -> Iterable[Problem]:
    if not keys:
        remedy = "give several values (optim.lr=1e-5,2e-5), or leave -m out"
        yield Problem(where="-m", message="nothing here sweeps over several values", remedy=remedy)
    for key in sorted({key for key in keys if keys.count(key) + [_key(text) for text in fixed].count(key) > 1}):
        yield Problem(where=key, message="it is swept over, and set once more", remedy="write it once")
    if "runs_root" in keys:
        yield Problem(where="runs_root", message="members of a sweep lie together", remedy="give one value")


def _key(text: str) -> str:
    return text.lstrip("+~").partition("=")[0]


_Part: TypeAlias = tuple[Any, Any, tuple[Problem, ...]]
"""A top-level key's plain value, the same as the schema's type, and what is wrong with it."""


@dataclass(kw_only=True, slots=True)
class _Tree:
    """One composition, with the values of the last member that was asked about."""

    config: DictConfig
    """As Hydra composed it, interpolations unresolved."""
    linked: list[str]
    """Top-level keys that refer to others."""
    parts: dict[str, _Part]
    """What no member's values reach."""
    seen: dict[tuple[str, ...], _Part] = field(default_factory=dict)
    """What became of a top-level key, by the values that were set below it."""

    def part(self, key: str) -> _Part:
        """The key as it stands."""
        node, problems = self.config[key], list[Problem]()
        value = OmegaConf.to_container(node, resolve=True, enum_to_str=True) if OmegaConf.is_config(node) else node
        return value, read_field(Config, key, value, problems), tuple(problems)


@dataclass(kw_only=True, slots=True)
class Composer:
    """Composes one member after another."""

    recipe: str
    """The recipe that they share."""
    search: SearchPath
    """Where groups are found."""
    _parsed: dict[str, Override] = field(default_factory=dict)
    _groups: list[str] = field(default_factory=list)
    _trees: dict[tuple[str, ...], _Tree | Composed] = field(default_factory=dict)
    _explained: dict[tuple[str, ...], Composed] = field(default_factory=dict)

    def compose(self, member: Sequence[str], fixed: Sequence[str]) -> Composed:
        """What `compose` gives for the `fixed` overrides and those of one member."""
        keys = [_key(text) for text in (*fixed, *member)]
        late = [text for text in member if self._is_late(text, keys)]
        early = (*fixed, *(text for text in member if text not in late))
        place = (*early, *map(_key, late))
        if place not in self._trees:
            self._trees[place] = self._tree(early, late)
        tree = self._trees[place]
        return tree if isinstance(tree, Composed) else self._member(tree, early, late)

    def _is_late(self, text: str, keys: Sequence[str]) -> bool:
        """Whether the override can be applied after everything else, over the last member's.

        It must set one value, whole, that nothing else typed touches.
        """
        override = self._override(text)
        key = override.key_or_group
        near = [other for other in keys if f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.")]
        self._groups = self._groups or self.search.groups()
        sets = not (override.is_delete() or override.is_add()) and override.package is None
        whole = not isinstance(override.value(), dict) and not _refers(override.value())
        return sets and whole and near == [key] and key not in self._groups

    def _override(self, text: str) -> Override:
        if text not in self._parsed:
            override = parse(opened(text))
            assert isinstance(override, Override), "sweeps are made of overrides"
            self._parsed[text] = override
        return self._parsed[text]

    def _tree(self, early: Sequence[str], late: Sequence[str]) -> _Tree | Composed:
        if any(text.lstrip("+~").startswith("hydra.") for text in (*early, *late)):
            return compose(self.recipe, (*early, *late), self.search)
        try:
            config = composed_tree(self.recipe, [opened(text) for text in early], self.search, typed=True)
        except REFUSALS:
            return compose(self.recipe, early, self.search)
        raw: Any = OmegaConf.to_container(config, resolve=False, enum_to_str=True)
        tree = _Tree(config=config, linked=[str(key) for key in raw if _refers(raw[key])], parts={})
        touched = {self._top(text) for text in late}
        tree.parts = {key: tree.part(key) for key in map(str, raw) if key not in touched and key not in tree.linked}
        return tree

    def _top(self, text: str) -> str:
        return str(self._override(text).key_or_group).partition(".")[0]

    def _member(self, tree: _Tree, early: Sequence[str], late: Sequence[str]) -> Composed:
        below: dict[str, tuple[str, ...]] = {}
        for text in late:
            below[self._top(text)] = (*below.get(self._top(text), ()), text)
        new = [key for key, texts in below.items() if texts not in tree.seen or tree.linked]
        refused = tuple(text for key in new for text in below[key] if not self._apply(tree.config, text))
        if refused:
            place = (*early, *refused)
            if place not in self._explained:
                self._explained[place] = compose(self.recipe, place, self.search)
            return self._explained[place]
        tree.seen |= {below[key]: tree.part(key) for key in new}
        parts = {**tree.parts, **{key: tree.seen[texts] for key, texts in below.items()}}
        return _whole({**parts, **{key: tree.part(key) for key in tree.linked}})

    def _apply(self, config: DictConfig, text: str) -> bool:
        """Set one value; False where Hydra refuses it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ConfigLoaderImpl._apply_overrides_to_config([self._override(text)], config)
        except REFUSALS:
            return False
        return True


CONSTANT = re.compile(r"\$\{(?:oc\.env|shipped):")
"""Begins an interpolation that no other key can change."""


def _refers(value: Any) -> bool:
    """Whether an interpolation below `value` looks at another key."""
    if isinstance(value, dict):
        return any(_refers(item) for item in value.values())
    if isinstance(value, list):
        return any(_refers(item) for item in value)
    return isinstance(value, str) and "${" in CONSTANT.sub("", value)


def _whole(parts: dict[str, _Part]) -> Composed:
    if any(problems for _, _, problems in parts.values()) or parts.keys() != Config.__dataclass_fields__.keys():
        return decode_config({key: value for key, (value, _, _) in parts.items()})
    return Composed(config=Config(**{key: decoded for key, (_, decoded, _) in parts.items()}), problems=[])
