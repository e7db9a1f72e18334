"""What users write under `data.train` and `data.eval`: a path, a list of paths, or entries with settings of their own.

Pure: looks at no disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from launcher.data.source import Format, Unit
from launcher.decode import BROKEN, hints_of, read
from launcher.errors import Problem, closest_first


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One source, as written."""

    path: str | None = None
    """A file, or a pattern of several (`data/*.jsonl.gz`)."""
    hub: str | None = None
    """A data set of the Hugging Face hub, OWNER/NAME, instead."""
    subset: str | None = None
    """Its configuration."""
    split: str | None = None
    """Its split; `train` unless told."""
    revision: str | None = None
    """Commit, tag or branch."""
    format: Format | None = None
    """Row format; null is `data.format`."""
    columns: dict[str, str] = field(default_factory=dict)
    """Field of the format: column of the file."""
    unit: Unit = Unit.line
    """What one row of a plain text file is."""
    limit: int | None = None
    """Use only the first so many rows."""
    weight: float | None = None
    """Share of the samples, among the weights of all sources."""
    count: int | None = None
    """Samples an epoch."""
    tags: dict[str, str] = field(default_factory=dict)
    """What is true of all its rows."""


HUB_KEYS = ("subset", "split", "revision")
MIXED = ("weight", "count")


def source_entries(value: Any, where: str, problems: list[Problem]) -> list[Entry]:
    """The sources of `value`; what cannot be read is left out and told in `problems`."""
    items = value if isinstance(value, list | tuple) else [value]
    if not items:
        problems.append(Problem(where=where, message="the list is empty", valid="at least one file"))
    before = len(problems)
    entries: list[Entry] = []
    for index, item in enumerate(items):
        spot = where if len(items) == 1 else f"{where}[{index}]"
        if isinstance(item, str) and item:
            entries.append(Entry(path=item))
        elif isinstance(item, dict):
            entries += _entry(item, spot, problems)
        else:
            problems.append(Problem(where=spot, message=f"{item!r} is not a file", valid="PATH or {path: PATH}"))
    if len(problems) == before:
        problems += _mixture(entries, where)
    return entries


HELD_OUT = "eval"
"""Key of held-out rows without a name."""


def held_out_sets(value: Any) -> dict[str, Any]:
    """What is written under `data.eval`, set by set: `eval` where it is one without a name, else `eval_NAME` each.

    A mapping is one source if any of its keys is a source's, and else holds a set under every name.
    """
    if value is None:
        return {}
    if isinstance(value, dict) and not set(value) & {item.name for item in dataclasses.fields(Entry)}:
        return {f"{HELD_OUT}_{name}": rows for name, rows in value.items()}
    return {HELD_OUT: value}


def typed(key: str) -> str:
    """The config key of `train`, `eval` or `eval_NAME`, as users type it."""
    return f"data.{HELD_OUT}.{key.removeprefix(f'{HELD_OUT}_')}" if key.startswith(f"{HELD_OUT}_") else f"data.{key}"


def written(entry: Entry) -> dict[str, Any]:
    """The entry as plain values, defaults left out."""
    values = {item.name: getattr(entry, item.name) for item in dataclasses.fields(entry)}
    defaults = dataclasses.asdict(Entry())
    return {name: getattr(value, "value", value) for name, value in values.items() if value != defaults[name]}


def _entry(item: dict[str, Any], where: str, problems: list[Problem]) -> Iterator[Entry]:
    hints = hints_of(Entry)
    before = len(problems)
    for key in item:
        if key not in hints:
            nearest = closest_first(str(key), hints)
            problems.append(Problem(where=f"{where}.{key}", message="there is no such key", valid=", ".join(nearest)))
    given = [name for name in ("path", "hub") if item.get(name) is not None]
    if len(given) != 1:
        seen = "both are given" if given else "neither is given"
        valid = "exactly one: path (of files) or hub (OWNER/NAME)"
        problems.append(Problem(where=f"{where}.path", message=f"what is read is not clear: {seen}", valid=valid))
    values = {key: read(hint, item[key], f"{where}.{key}", problems) for key, hint in hints.items() if key in item}
    for key in ("limit", *MIXED):
        if values.get(key) not in (None, BROKEN) and values[key] <= 0:
            problems.append(Problem(where=f"{where}.{key}", message=f"{values[key]} is out of range", valid="over 0"))
    for key in HUB_KEYS:
        if given == ["path"] and values.get(key) is not None:
            problems.append(Problem(where=f"{where}.{key}", message="a file has none", remedy="leave it out"))
    if len(problems) == before:
        yield Entry(**values)


def _mixture(entries: list[Entry], where: str) -> Iterator[Problem]:
    kinds = [tuple(name for name in MIXED if getattr(entry, name) is not None) for entry in entries]
    if len(set(kinds)) > 1 or any(len(kind) > 1 for kind in kinds):
        yield Problem(
            where=where,
            message="some sources have a weight, a count or neither, and others another of these",
            valid="weight for every source, count for every source, or neither for any",
        )
