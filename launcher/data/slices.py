"""Values of fields kept with prepared rows: by these, held-out losses are told apart.

Owns the two files of a prepared folder that hold them, and what counts as a value. Must not know how rows are read or
evaluated, nor torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from launcher.data.source import Source
from launcher.data.tokens import AnyArray, TokenStore

SLICES = "slices.bin"
"""Per row and field: int16, which of the field's values it has, -1 for none."""
VALUES = "slices.json"
"""{field: [value, …]}, the most frequent first."""
MOST_VALUES = 64
"""Of a field; rarer ones are `OTHER` together."""
OTHER, NONE = "(other)", "(none)"
SOURCE = "source"
"""Field that every row has: without a value of its own, the name of its source."""
_MOST_CHARS = 80


def value_of(row: Any, field: str) -> str | None:
    """A row's value of a field, as text; nested fields have dots. None where there is none, or no single one."""
    found = row
    if not (isinstance(row, Mapping) and field in row):
        for part in field.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    else:
        found = row[field]
    if isinstance(found, bool):
        return str(found).lower()
    return str(found)[:_MOST_CHARS] if isinstance(found, str | int | float) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Slices:
    """The values of a prepared set's rows."""

    values: dict[str, tuple[str, ...]]
    """Field: its values."""
    ids: AnyArray
    """int32 [rows, fields]: the place of each row's value among these."""


def read_slices(store: TokenStore, fields: Sequence[str], sources: Sequence[Source]) -> Slices | None:
    """What `store`, prepared from `sources`, kept of `fields`; None of none.

    Where a row has no value of its own, a tag of its source stands for it.
    """
    if not fields:
        return None
    kept = json.loads((store.folder / VALUES).read_text(encoding="utf-8"))
    size = len(store) * len(fields)
    flat = np.fromfile(store.folder / SLICES, dtype=np.int16, count=size)
    ids = flat.reshape(len(store), len(fields)).astype(np.int32)
    ends = np.cumsum([source.rows for source in store.meta.sources])
    values = {}
    for place, field in enumerate(fields):
        names: list[str] = list(kept[field])
        for source, end, meta in zip(sources, ends.tolist(), store.meta.sources, strict=True):
            said = source.tags.get(field, source.name if field == SOURCE else NONE)
            mine = ids[end - meta.rows : end, place]
            if (mine < 0).any():
                if said not in names:
                    names.append(said)
                mine[mine < 0] = names.index(said)
        values[field] = tuple(names)
    return Slices(values=values, ids=ids)
