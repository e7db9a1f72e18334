"""The rows that are not trained on, each with its place and reason.

Owns the lines of the file of rejected rows, and telling where a row comes from. Must not know how duplicates are found.
"""

from __future__ import annotations

import contextlib
import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from launcher.data.clean.duplicates import Firsts
from launcher.data.feed.order import Int64Array
from launcher.data.make.parts import ROW, Counts, column, part_dir, refusals
from launcher.data.make.tokenise import Job, batches, content
from launcher.data.read import LineNumbers, Piece, Row, read, told
from launcher.data.reject import Step
from launcher.data.tokens import AnyArray

BLOCK_ROWS = 1 << 16
_ALIKE = {Step.duplicate: "the same words as", Step.near_duplicate: "nearly the same words as"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A finished part and where it stands among all."""

    number: int
    """Of its piece."""
    piece: Piece
    """What it was made of."""
    counts: Counts
    """What became of that."""
    first_row: int
    """Its first kept row, numbered through all parts."""
    lines_before: int
    """Lines of its file before the piece."""


def placed(pieces: list[Piece], counts: list[Counts]) -> list[Made]:
    """Parts with their places among all, from those of each."""
    made: list[Made] = []
    row, lines = 0, 0
    for number, (piece, mine) in enumerate(zip(pieces, counts, strict=True)):
        if piece.start == 0:
            lines = 0
        made.append(Made(number=number, piece=piece, counts=mine, first_row=row, lines_before=lines))
        row, lines = row + mine.rows, lines + mine.lines
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class Closing:
    """What it takes to say of every row whether it stays."""

    job: Job
    """The preparation."""
    made: tuple[Made, ...]
    """All parts."""
    repeats: tuple[tuple[Step, Firsts], ...]
    """Rows that repeat others; the first step that finds one counts."""
    folder: Path
    """Private; takes the lines of rejected rows."""

    def fates(self, made: Made, low: int, high: int) -> tuple[AnyArray, Int64Array, AnyArray]:
        """Of the part's rows [low, high): (their entries, the row each repeats or -1, the step's place + 1 or 0)."""
        entries = column(part_dir(self.job.work, made.number, made.piece), "rows", ROW)[low:high]
        firsts = np.full(high - low, -1, dtype=np.int64)
        steps = np.zeros(high - low, dtype=np.int8)
        for place, (_, table) in enumerate(self.repeats):
            mine = table.of(made.first_row + low, made.first_row + high)
            new = (mine >= 0) & (firsts < 0)
            firsts[new], steps[new] = mine[new], place + 1
        return entries, firsts, steps

    def stays(self, entries: AnyArray, firsts: Int64Array) -> AnyArray:
        """Per row, whether it is trained on."""
        unsuspected: AnyArray = entries["suspect"] == 0
        return unsuspected & (firsts < 0)


def rejected_file(folder: Path, number: int) -> Path:
    """Where the rejected rows of a part wait to be joined."""
    return folder / f"rejected-{number:06d}"


def write_rejected(closing: Closing, number: int) -> int:
    """Write the lines of one part's rejected rows; how many."""
    made = closing.made[number]
    folder = part_dir(closing.job.work, number, made.piece)
    source = closing.job.spec.sources[made.piece.source]
    count = 0
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(rejected_file(closing.folder, number).open("w", encoding="utf-8"))
        repeated = _repeated(closing, made)
        streams = (refusals(folder, "refused"), _suspects(closing, made), repeated)
        for entry in heapq.merge(*streams, key=lambda entry: int(entry["line"])):
            where = told(made.piece.path, made.piece.kind, entry["line"] + made.lines_before)
            file.write(json.dumps({"source": source.name, "where": where} | _told(entry), default=str) + "\n")
            count += 1
    return count


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    return {"step": entry["step"], "reason": entry["reason"], "row": entry["row"]}


def _suspects(closing: Closing, made: Made) -> Iterator[dict[str, Any]]:
    """Rows with held-out words that repeat no other."""
    listed = refusals(part_dir(closing.job.work, made.number, made.piece), "suspects")
    for low in range(0, made.counts.rows, BLOCK_ROWS):
        entries, firsts, _ = closing.fates(made, low, min(low + BLOCK_ROWS, made.counts.rows))
        for place in np.flatnonzero(entries["suspect"]):
            entry = next(listed)
            if firsts[place] < 0:
                yield entry


def _repeated(closing: Closing, made: Made) -> Iterator[dict[str, Any]]:
    """Rows that repeat others; the piece is read once more, up to the last of them."""
    rows = _numbered_rows(closing, made)
    for low in range(0, made.counts.rows, BLOCK_ROWS):
        entries, firsts, steps = closing.fates(made, low, min(low + BLOCK_ROWS, made.counts.rows))
        places = np.flatnonzero(firsts >= 0)
        for place, where in zip(places, _wheres(closing, firsts[places]), strict=True):
            line, step = int(entries["line"][place]), closing.repeats[steps[place] - 1][0]
            row = next(row for number, row in rows if number == line)
            yield {"line": line, "step": step.value, "reason": f"{_ALIKE[step]} {where}", "row": content(row)}


def _numbered_rows(closing: Closing, made: Made) -> Iterator[tuple[int, Row]]:
    with LineNumbers(made.piece) as lines:
        for batch in batches(read(made.piece, closing.job.spec.sources[made.piece.source])):
            numbers = lines.at(np.array([row.place for row in batch], dtype=np.int64)).tolist()
            yield from zip(numbers, batch, strict=True)


def _wheres(closing: Closing, rows: Int64Array) -> list[str]:
    """FILE:LINE of each of `rows`, numbered through all parts."""
    starts = [made.first_row for made in closing.made]
    numbers = np.searchsorted(starts, rows, side="right") - 1
    wheres = [""] * len(rows)
    for number in np.unique(numbers):
        made = closing.made[number]
        places = np.flatnonzero(numbers == number)
        entries = column(part_dir(closing.job.work, made.number, made.piece), "rows", ROW)
        lines = entries["line"][rows[places] - made.first_row] + made.lines_before
        for place, line in zip(places.tolist(), lines.tolist(), strict=True):
            wheres[place] = told(made.piece.path, made.piece.kind, line)
    return wheres
