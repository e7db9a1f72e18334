"""The values by which losses are told apart, on their way from rows to the prepared folder.

Owns which values get a place of their own. Must not know which rows stay.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from launcher.data.make.assemble import Assembly
from launcher.data.slices import MOST_VALUES, OTHER, SLICES, VALUES
from launcher.data.tokens import AnyArray

_MOST_DISTINCT = 100_000
"""Values of a field that are counted; such a field tells rows apart, not kinds of rows."""
_UNCOUNTED = -2


def read_values(part: Path) -> Iterator[list[str | None]]:
    """The values of each row of a part, in order; one for each field."""
    with (part / "slices").open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


class Sliced:
    """The values of all rows stored so far."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._fields = fields
        self._places: list[dict[str, int]] = [{} for _ in fields]
        self._blocks = [np.zeros((0, len(fields)), dtype=np.int32)]

    def add(self, values: Iterator[list[str | None]], times: AnyArray, kept: AnyArray) -> None:
        """Append the next rows of a part: each is stored `times` times, of which those `kept` stay."""
        rows = [
            [self._place(field, value) for field, value in enumerate(mine)]
            for mine in itertools.islice(values, len(times))
        ]
        block = np.array(rows, dtype=np.int32).reshape(len(times), len(self._fields))
        self._blocks.append(np.repeat(block, times, axis=0)[kept])

    def write(self, assembly: Assembly) -> None:
        """The files of the prepared folder."""
        ids = np.concatenate(self._blocks)
        values = {}
        for place, field in enumerate(self._fields):
            ids[:, place], values[field] = _settled(ids[:, place], list(self._places[place]))
        assembly.add_file(SLICES, ids.astype(np.int16).tobytes())
        assembly.add_file(VALUES, (json.dumps(values, ensure_ascii=False) + "\n").encode())

    def _place(self, field: int, value: str | None) -> int:
        places = self._places[field]
        if value is None:
            return -1
        if value not in places and len(places) == _MOST_DISTINCT:
            return _UNCOUNTED
        return places.setdefault(value, len(places))


def _settled(ids: AnyArray, names: list[str]) -> tuple[AnyArray, list[str]]:
    """The most frequent values, those of equal number by name, and the rows' places among them."""
    counts = np.bincount(ids[ids >= 0], minlength=len(names))
    ranked = sorted((place for place in range(len(names)) if counts[place]), key=lambda at: (-counts[at], names[at]))
    shown = [names[place] for place in ranked[:MOST_VALUES]]
    # One more at each end: -1 is its last, and stays what it is; -2 is the one before.
    table = np.full(len(names) + 2, len(shown), dtype=np.int32)
    table[-1] = -1
    table[ranked[:MOST_VALUES]] = np.arange(len(shown))
    settled = table[ids]
    return settled, [*shown, OTHER] if (settled == len(shown)).any() else shown
