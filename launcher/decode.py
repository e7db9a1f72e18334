"""Plain JSON-like values to frozen dataclasses, with every mistake reported, not the first.

Owns the reading of types. Both the composed config and a stored plan pass through here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from launcher.errors import Problem, closest_first, is_near

T = TypeVar("T")
BROKEN: Any = object()
"""Stands where a value could not be read; a Problem says why."""


@functools.cache
def hints_of(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return typing.get_type_hints(cls)


def decode(cls: type[T], value: Any) -> T:
    """Read `value` as a `cls`; a mistake is our own bug (AssertionError), for what we wrote ourselves."""
    problems: list[Problem] = []
    result = read(cls, value, "", problems)
    assert not problems, "\n".join(str(problem) for problem in problems)
    return typing.cast("T", result)


def read(hint: Any, value: Any, where: str, problems: list[Problem]) -> Any:
    """Read `value` as the type `hint`; returns BROKEN and appends to `problems` when it is not one."""
    if value == "???":
        problems.append(Problem(where=where, message="a value is required here", remedy=f"add {where}=VALUE"))
        return BROKEN
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _read_dataclass(typing.cast("type", hint), value, where, problems)
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _read_union(hint, value, where, problems)
    if origin in (list, tuple, dict):
        return _read_container(origin, typing.get_args(hint), value, where, problems)
    return _read_scalar(hint, value, where, problems)


def read_field(cls: type, name: str, value: Any, problems: list[Problem]) -> Any:
    """Read `value` as the field `name` of the dataclass `cls`, as `read` does; the key is the field's name."""
    return read(hints_of(cls)[name], value, name, problems) if name in hints_of(cls) else BROKEN


def _read_dataclass(cls: type, value: Any, where: str, problems: list[Problem]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(Problem(where=where, message=f"{value!r} is not a group of keys", valid=_names(cls)))
        return BROKEN
    fields = [field.name for field in dataclasses.fields(cls)]
    before = len(problems)
    for key in value:
        if key not in fields:
            problems.append(_unknown_key(_join(where, str(key)), str(key), where, fields))
    arguments = {}
    for name in fields:
        if name in value:
            arguments[name] = read(hints_of(cls)[name], value[name], _join(where, name), problems)
        else:
            problems.append(Problem(where=_join(where, name), message="a value is required here"))
    return cls(**arguments) if len(problems) == before else BROKEN


def _unknown_key(full_key: str, key: str, where: str, fields: Sequence[str]) -> Problem:
    nearest = closest_first(key, fields)
    return Problem(
        where=full_key,
        message="there is no such key",
        valid=", ".join(_join(where, name) for name in nearest),
        remedy=f"write {_join(where, nearest[0])}" if is_near(key, nearest[0]) else "",
    )


def _names(cls: type) -> str:
    return ", ".join(field.name for field in dataclasses.fields(cls))


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _read_union(hint: Any, value: Any, where: str, problems: list[Problem]) -> Any:
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    if value is None and type(None) in typing.get_args(hint):
        return None
    for member in members[:-1]:
        attempt: list[Problem] = []
        result = read(member, value, where, attempt)
        if not attempt:
            return result
    return read(members[-1], value, where, problems)


def _read_container(origin: Any, args: tuple[Any, ...], value: Any, where: str, problems: list[Problem]) -> Any:
    if origin is dict:
        if not isinstance(value, Mapping):
            problems.append(Problem(where=where, message=f"{value!r} is not a mapping", valid="{key: value}"))
            return BROKEN
        return {str(key): read(args[1], item, _join(where, str(key)), problems) for key, item in value.items()}
    if not isinstance(value, Sequence) or isinstance(value, str):
        problems.append(Problem(where=where, message=f"{value!r} is not a list", valid=f"[{value}]"))
        return BROKEN
    return origin(read(args[0], item, f"{where}[{index}]", problems) for index, item in enumerate(value))


def _read_scalar(hint: Any, value: Any, where: str, problems: list[Problem]) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        for member in hint:
            if value is member or value in (member.value, member.name):
                return member
        choices = closest_first(str(value), [str(member.value) for member in hint], limit=20)
        problems.append(Problem(where=where, message=f"{value!r} is not a choice", valid=", ".join(choices)))
        return BROKEN
    if hint is float and isinstance(value, str | int) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            value = float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(Problem(where=where, message=f"{value} is not a finite number", valid="a number"))
        return BROKEN
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    kind = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]
    problems.append(Problem(where=where, message=f"{value!r} is not {kind}", valid=kind))
    return BROKEN
