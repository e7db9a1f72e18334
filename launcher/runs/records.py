"""Append-only JSONL files read in part: what is new, what is last, where an attempt ends. Never the whole file.

metrics.jsonl grows with the run; asking how a run stands must not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

TAIL_BYTES = 1 << 16
"""About 250 steps."""


class NewRecords:
    """The records appended to a file since the last look; the file may not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Whole new records; a line that is still being written comes next time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return _records(whole)


def tail(path: Path, end: int | None = None) -> list[dict[str, Any]]:
    """The last records before byte `end` (the file's end, if None), as many as `TAIL_BYTES` hold."""
    try:
        with path.open("rb") as file:
            stop = file.seek(0, 2) if end is None else end
            start = max(0, stop - TAIL_BYTES)
            file.seek(start)
            data = file.read(stop - start)
    except FileNotFoundError:
        return []
    return _records(data if start == 0 else data[data.find(b"\n") + 1 :])


def backwards(path: Path) -> Iterator[dict[str, Any]]:
    """All records, the last first, a block of the file at a time; none where there is no file."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        stop, rest = file.seek(0, 2), b""
        while stop:
            start = max(0, stop - TAIL_BYTES)
            file.seek(start)
            data = file.read(stop - start) + rest
            # What comes before the block's first line end belongs to a line that begins in the block before.
            cut = (data.find(b"\n") + 1 or len(data)) if start else 0
            rest = data[:cut]
            yield from reversed(_records(data[cut:]))
            stop = start


def last_steps(path: Path, attempt: int) -> list[dict[str, Any]]:
    """The last optimiser steps that `attempt` recorded, found by bisection; as many as `tail` holds."""
    if not path.is_file():
        return []
    return [record for record in tail(path, _end_of(path, (attempt, math.inf))) if is_step(record, attempt)]


def last_step(path: Path, attempt: int) -> int | None:
    """The last optimiser step that `attempt` recorded; None if it recorded none."""
    steps = last_steps(path, attempt)
    return int(steps[-1]["step"]) if steps else None


def held_out_loss(path: Path, attempt: int, step: int) -> float | None:
    """The held-out loss that `attempt` measured after `step`; None if it is not known.

    Found by bisection over steps, which an attempt that went back to an earlier one may defeat.
    """
    if not path.is_file():
        return None
    near = tail(path, _end_of(path, (attempt, step)))
    losses = [
        item["eval_loss"] for item in near if "eval_loss" in item and (item["attempt"], item["step"]) == (attempt, step)
    ]
    return losses[-1] if losses else None


def is_step(record: dict[str, Any], attempt: int | None = None) -> bool:
    """Whether a metrics record is of an optimiser step, not of an evaluation (and of that attempt)."""
    return "loss" in record and attempt in (None, record["attempt"])


def _end_of(path: Path, place: tuple[float, float]) -> int:
    """Byte at which the first record beyond (attempt, step) begins. Attempts follow one another in the file."""
    with path.open("rb") as file:
        low, high = 0, file.seek(0, 2)
        while low < high:
            middle = (low + high) // 2
            record = _first_record(file, middle)
            if record is None or (record.get("attempt", 0), record.get("step", 0)) > place:
                high = middle
            else:
                low = middle + 1
        _seek_line(file, low)
        return file.tell()


def _first_record(file: BinaryIO, offset: int) -> dict[str, Any] | None:
    """The first record that begins at `offset` or after it."""
    _seek_line(file, offset)
    while line := file.readline():
        if found := _records(line):
            return found[0]
    return None


def _seek_line(file: BinaryIO, offset: int) -> None:
    file.seek(max(0, offset - 1))
    if offset:
        file.readline()


def _records(data: bytes) -> list[dict[str, Any]]:
    """Every line that is a JSON object. A crash can leave half a line, and the next record is then glued to it."""
    found = []
    for line in data.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            found.append(record)
    return found
