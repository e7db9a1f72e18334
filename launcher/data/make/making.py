"""All parts of a preparation: those that are there, and those that are made now.

Owns the first half of a preparation: which pieces there are, who makes them, and what stops it. Must not know the
cache's final folder or duplicates.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

from launcher.data.clean.contamination import write_table
from launcher.data.formats import Conversation, learnt, to_example
from launcher.data.make.parts import Counts, counts_of, part_dir, refusals
from launcher.data.make.pool import each
from launcher.data.make.progress import Progress, Report
from launcher.data.make.rejected import placed
from launcher.data.make.tokenise import MOST_FAULTS, Fault, Job, Outcome, make_part, work_alone
from launcher.data.read import Piece, pieces, read, told, where
from launcher.data.reject import RowError, Step
from launcher.data.source import DataSpec
from launcher.errors import Problem, UserError

# After the first bad row, so many pieces more are searched for others, and not the whole data set.
_SEARCH_PIECES = 16


def make_parts(job: Job, cut: list[Piece], report: Report, workers: int, small_bytes: int) -> list[Counts]:
    """The counts of every piece's part, made now unless it is there; UserError with all problems found."""
    there = [counts_of(part_dir(job.work, number, piece)) for number, piece in enumerate(cut)]
    missing = [(number, piece) for number, piece in enumerate(cut) if there[number] is None]
    few = min(workers, len(missing)) if sum(piece.size_bytes for _, piece in missing) >= small_bytes else 1
    progress = _Shown(report, cut, there)
    counts: list[Counts] = []
    # Closed before anybody removes the work folder, so that no worker is left writing into it.
    with contextlib.closing(each(make_part, job, missing, max(few, 1), work_alone)) as made:
        for number, known in enumerate(there):
            if known is None:
                outcome = next(made)
                if outcome.faults:
                    rest = itertools.islice(made, _SEARCH_PIECES)
                    raise UserError(*_problems(missing, itertools.chain([outcome], rest), number))
                known = outcome.counts
                progress.add(cut[number], known)
            counts.append(known)
    _refuse_mostly_broken(job, cut, counts)
    return counts


def write_held_out(spec: DataSpec, path: Path, piece_bytes: int, bucket_bytes: int) -> None:
    """Publish the table of held-out words at `path`, unless it is there."""
    if path.exists():
        return
    cut = pieces(spec.held_out, piece_bytes)
    size = sum(piece.size_bytes for piece in cut)
    write_table(path, _held_out(spec, cut), spec.clean.ngram, size, bucket_bytes)


def _held_out(spec: DataSpec, cut: list[Piece]) -> Iterator[Conversation]:
    for piece in cut:
        source = spec.held_out[piece.source]
        for row in read(piece, source):
            # What is wrong with held-out rows is told where they are prepared themselves.
            with contextlib.suppress(RowError):
                if row.value is not None:
                    example = to_example(row.value, source.format, source.columns)
                    yield learnt(example, spec.learns, spec.labels).conversations[0]


class _Shown:
    """Progress, of which earlier starts did a part."""

    def __init__(self, report: Report, cut: list[Piece], there: list[Counts | None]) -> None:
        self._report = report
        known = [(piece, counts) for piece, counts in zip(cut, there, strict=True) if counts is not None]
        self._total = sum(piece.size_bytes for piece in cut)
        self._done = sum(piece.size_bytes for piece, _ in known)
        self._rows = sum(counts.rows_in for _, counts in known)
        self._before = self._tokens = sum(counts.tokens for _, counts in known)
        if known:
            self._tell()

    def add(self, piece: Piece, counts: Counts) -> None:
        self._done += piece.size_bytes
        self._rows += counts.rows_in
        self._tokens += counts.tokens
        self._tell()

    def _tell(self) -> None:
        self._report(
            Progress(
                bytes_done=self._done,
                bytes_total=self._total,
                rows=self._rows,
                tokens=self._tokens,
                tokens_before=self._before,
            )
        )


def _problems(missing: list[tuple[int, Piece]], outcomes: Iterator[Outcome], first: int) -> list[Problem]:
    """The bad rows of the pieces from number `first` on, ten at most."""
    rest = [piece for number, piece in missing if number >= first]
    # Every piece may hold ten; a place costs a look through the file.
    faults = ((piece, fault) for piece, outcome in zip(rest, outcomes, strict=False) for fault in outcome.faults)
    return [_problem(piece, fault) for piece, fault in itertools.islice(faults, MOST_FAULTS)]


def _problem(piece: Piece, fault: Fault) -> Problem:
    place = where(piece.path, piece.kind, fault.place)
    return Problem(
        where=place,
        message=f"{fault.reason}; the row begins: {fault.excerpt}",
        valid=fault.valid,
        remedy=fault.remedy or "mend or delete the row, or let data.clean drop such rows",
    )


def _refuse_mostly_broken(job: Job, cut: list[Piece], counts: list[Counts]) -> None:
    """UserError where so much of a source is broken that it is most likely read in the wrong way."""
    most = job.spec.clean.most_broken
    for number, source in enumerate(job.spec.sources):
        mine = [made for made in placed(cut, counts) if made.piece.source == number]
        rows_in = sum(made.counts.rows_in for made in mine)
        broken = sum(made.counts.refused.get(Step.broken.value, 0) for made in mine)
        if broken <= most * rows_in:
            continue
        message = f"{broken} of {rows_in} rows of {source.name} cannot be read, more than the share of {most} allowed"
        remedy = "set data.format and columns to what the rows are; the first of them follow"
        problems = [Problem(where="data.clean.most_broken", message=message, remedy=remedy)]
        for made in mine:
            for entry in refusals(part_dir(job.work, made.number, made.piece), "refused"):
                if entry["step"] == Step.broken.value:
                    place = told(made.piece.path, made.piece.kind, entry["line"] + made.lines_before)
                    problems.append(Problem(where=place, message=entry["reason"]))
                if len(problems) == MOST_FAULTS:
                    raise UserError(*problems)
        raise UserError(*problems)
