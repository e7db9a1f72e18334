"""Parquet and Arrow: rows out of columns, a few megabytes of them at a time.

Owns pyarrow, which is imported inside the calls because that takes a third of a second.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.data.read.piece import Lost, Row, bad, good
from launcher.data.reject import RowError

_STEP_BYTES = 4 << 20
_STEP_ROWS = 1024
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A row group of a Parquet file, or a record batch of an Arrow file."""

    rows: int
    """How many."""
    size_bytes: int
    """Unpacked."""


def parquet_blocks(path: Path) -> list[Block]:
    """The row groups, from the footer; `Lost` where there is none that can be read."""
    with _lost_at(1), _parquet(path) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        return [Block(rows=group.num_rows, size_bytes=group.total_byte_size) for group in groups]


def parquet_rows(path: Path, start: int, stop: int) -> Iterator[Row]:
    """The rows of row groups [start, stop)."""
    blocks = parquet_blocks(path)
    number = sum(block.rows for block in blocks[:start])
    with _parquet(path) as file:
        # One by one: a reader of several fails at once where any of them is damaged.
        for group, block in enumerate(blocks[start:stop], start=start):
            step = _step(block.size_bytes, block.rows)
            batches = _batches_of(file, group, step, number + 1)
            while (batch := _next(batches, number + 1)) is not None:
                yield from _rows(batch, number)
                number += batch.num_rows


def _batches_of(file: Any, group: int, step: int, number: int) -> Iterator[Any]:
    with _lost_at(number):
        return iter(file.iter_batches(batch_size=step, row_groups=[group], use_threads=False))


def arrow_blocks(path: Path) -> list[Block]:
    """The record batches, without their contents: the file is mapped; `Lost` where one is cut off."""
    number = 1
    blocks = []
    for batch in _batches(path):
        blocks.append(Block(rows=batch.num_rows, size_bytes=batch.nbytes))
        number += batch.num_rows
    return blocks


def arrow_rows(path: Path, start: int, stop: int) -> Iterator[Row]:
    """The rows of record batches [start, stop)."""
    number = 0
    for place, batch in enumerate(itertools.islice(_batches(path), stop)):
        if place >= start:
            step = _step(batch.nbytes, batch.num_rows)
            for begin in range(0, batch.num_rows, step):
                yield from _rows(batch.slice(begin, step), number + begin)
        number += batch.num_rows


def _batches(path: Path) -> Iterator[Any]:
    import pyarrow

    number = 1
    with contextlib.ExitStack() as stack:
        with _lost_at(number):
            source = stack.enter_context(pyarrow.memory_map(str(path)))
            if source.read(6) == b"ARROW1":
                reader = pyarrow.ipc.open_file(source)
                batches = (reader.get_batch(place) for place in range(reader.num_record_batches))
            else:
                source.seek(0)
                batches = iter(pyarrow.ipc.open_stream(source))
        while (batch := _next(batches, number)) is not None:
            yield batch
            number += batch.num_rows


def _next(batches: Iterator[Any], number: int) -> Any:
    with _lost_at(number):
        return next(batches, None)


@contextlib.contextmanager
def _lost_at(number: int) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise Lost(number, f"the file is damaged or was cut short ({reason})") from None


def _parquet(path: Path) -> Any:
    import pyarrow.parquet

    # With a buffer, pages are read as they are needed, and not a row group's whole columns at once.
    return pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)


def _step(size_bytes: int, rows: int) -> int:
    return max(1, min(_STEP_ROWS, _STEP_BYTES * rows // max(1, size_bytes)))


def _rows(batch: Any, before: int) -> Iterator[Row]:
    import pyarrow

    try:
        values = batch.to_pylist()
    except (pyarrow.ArrowException, ValueError, OverflowError):
        # A value that Python cannot hold: text that is not UTF-8, a date of the year 10,000. One row's, not all's.
        values = [_value(batch, place) for place in range(batch.num_rows)]
    for number, value in enumerate(values, start=before + 1):
        if isinstance(value, RowError):
            yield bad(number, "", value)
        else:
            yield good(number, json.dumps(value, ensure_ascii=False, default=str), value)


def _value(batch: Any, place: int) -> Any:
    import pyarrow

    try:
        return batch.slice(place, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        return RowError(f"not UTF-8: {error.reason}")
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        return RowError(f"it cannot be read: {error}")
