"""Which objectives there are, by name: the modules of this package. Imports no torch, nor does any of them."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, cast

from launcher import objectives
from launcher.config.schema import Config
from launcher.decode import BROKEN, read
from launcher.errors import Problem
from launcher.objectives.protocol import Module, Objective, Options
from launcher.plain import plain
from launcher.remember import remembered

_NONE = ("protocol", "registry")
KEY = "objective.options"


@remembered
def names() -> list[str]:
    """All objectives, as users type them."""
    return sorted(module.name for module in pkgutil.iter_modules(objectives.__path__) if module.name not in _NONE)


@remembered
def load(name: str, options: Mapping[str, Any] | None = None) -> Objective:
    """The objective `name` with `options` in place of its defaults; validation has seen both."""
    problems: list[Problem] = []
    made = checked(name, options or {}, problems)
    assert made is not None, "\n".join(str(problem) for problem in problems)
    return made


def objective_of(config: Config) -> Objective:
    """The one that a validated config names."""
    return load(config.objective.name, config.objective.options)


def checked(name: str, options: Mapping[str, Any], problems: list[Problem]) -> Objective | None:
    """The same of what a user wrote; None, with `problems` told, where it is wrong."""
    module = _module(name)
    before = len(problems)
    chosen: Options = read(module.Options, settled(name, options), KEY, problems)
    if chosen is BROKEN:
        return None
    problems += [
        Problem(where=f"{KEY}.{found.where}", message=found.message, valid=found.valid, remedy=found.remedy)
        for found in chosen.problems()
    ]
    return module.build(chosen) if len(problems) == before else None


def settled(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of an objective, as plain values: those given, and its defaults."""
    return {**plain(_module(name).Options()), **options}


def located(name: str, options: Mapping[str, Any], absolute: Callable[[str], str]) -> dict[str, Any]:
    """The options of a validated config, those that name folders made `absolute`."""
    fields = dataclasses.fields(_module(name).Options)
    paths = {field.name for field in fields if field.metadata.get("path")}
    return {key: absolute(value) if key in paths and value else value for key, value in options.items()}


def _module(name: str) -> Module:
    return cast("Module", importlib.import_module(f"{objectives.__name__}.{name}"))
