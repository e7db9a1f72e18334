"""From one piece of a source to its part: what a single worker process does.

Owns the work between a row and its tokens, and which step a row fails at. Must not know other pieces: duplicates are
found when all parts are there.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from launcher.data.clean.contamination import HeldOut
from launcher.data.clean.fit import Fitted, fitted
from launcher.data.clean.similar import Similar
from launcher.data.clean.words import digest
from launcher.data.faults import empty_fault, encoding_fault, order_fault
from launcher.data.formats import Learnt, learnt, read_row
from launcher.data.make.parts import Counts, PartWriter, counts_of, part_dir
from launcher.data.read import LineNumbers, LostRows, Piece, Row, read
from launcher.data.reject import RowError, Step
from launcher.data.render.encode import Encoder, load_encoder
from launcher.data.slices import value_of
from launcher.data.source import DataSpec, Duplicates, Fix, Overlong

MOST_FAULTS = 10
_BATCH_ROWS = 1024
_BATCH_CHARS = 1 << 20
_EXCERPT_CHARS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What all workers of a preparation know."""

    key: str
    """Names the prepared data."""
    spec: DataSpec
    """With the sources as they lie on this machine."""
    work: Path
    """The folder of the parts."""
    held_out: Path | None
    """The table of held-out words; None where nobody looks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A row that stops the preparation."""

    place: int
    """Where in the piece's file."""
    excerpt: str
    """Its beginning, printable."""
    reason: str
    """What is wrong."""
    valid: str
    """What would be valid."""
    remedy: str
    """What to do; empty for the usual."""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What became of a piece: a part, or what stops the preparation."""

    counts: Counts = field(default_factory=Counts)
    """Those of the part."""
    faults: list[Fault] = field(default_factory=list)
    """Rows that stop it, ten at most; there is no part then."""


def make_part(job: Job, item: tuple[int, Piece]) -> Outcome:
    """Make the part of a piece, given with its number, unless it is there; UserError where no row can be encoded."""
    number, piece = item
    final = part_dir(job.work, number, piece)
    counts = counts_of(final)
    if counts is not None:
        return Outcome(counts=counts)
    outcome = Outcome()
    with _no_collector(), PartWriter(final) as writer, LineNumbers(piece) as lines:
        _Piece(job, piece, writer, lines, outcome).fill()
        if not outcome.faults:
            outcome.counts.lines = lines.total()
            writer.publish(outcome.counts)
    return outcome


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """No search for cycles meanwhile: rows form none, and it would go through thousands of them again and again."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def work_alone() -> None:
    """Make this process one of several workers: the tokenizer's own threads would only fight over the cores."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


_ENCODERS: dict[str, Encoder] = {}


def _encoder(job: Job) -> Encoder:
    """The job's encoder, kept from piece to piece: loading one takes seconds."""
    if job.key not in _ENCODERS:
        _ENCODERS.clear()
        _ENCODERS[job.key] = load_encoder(job.spec.tokenizer, job.spec.chat_template, job.spec.train_on)
    return _ENCODERS[job.key]


@functools.lru_cache(maxsize=1)
def _held_out(path: Path) -> HeldOut:
    return HeldOut(path)


@functools.lru_cache(maxsize=1)
def similar(similarity: float) -> Similar:
    """Remembered: it takes half a second."""
    return Similar(similarity)


class _Piece:
    """The rows of one piece on their way."""

    def __init__(self, job: Job, piece: Piece, writer: PartWriter, lines: LineNumbers, outcome: Outcome) -> None:
        self._spec, self._clean, self._piece = job.spec, job.spec.clean, piece
        self._source = job.spec.sources[piece.source]
        self._writer, self._lines, self._outcome = writer, lines, outcome
        self._counts = outcome.counts
        self._encoder = _encoder(job)
        self._held_out = None if job.held_out is None else _held_out(job.held_out)
        looks = ((Step.encoding, encoding_fault), (Step.empty, empty_fault), (Step.role_order, order_fault))
        self._looks = [(step, fault) for step, fault in looks if self._fix(step) is not Fix.keep]
        duplicates = self._clean.duplicates
        self._marks = duplicates is not Duplicates.keep
        self._similar = similar(self._clean.similarity) if duplicates is Duplicates.near else None

    def fill(self) -> None:
        for batch in batches(read(self._piece, self._source)):
            lines = self._lines.at(np.array([row.place for row in batch], dtype=np.int64)).tolist()
            self._counts.rows_in += len(batch)
            usable = []
            for row, line in zip(batch, lines, strict=True):
                try:
                    usable.append((row, line, self._judge(row)))
                except RowError as error:
                    self._refuse(row, line, error)
            self._encode(usable)
            if len(self._outcome.faults) >= MOST_FAULTS:
                return

    def _judge(self, row: Row) -> Learnt:
        """The row as an example, by the steps that need no tokens; RowError at the first that it fails."""
        if row.value is None:
            raise row.error or RowError("cannot be read")
        format_, example = read_row(row.value, self._source.format, self._source.columns)
        made = learnt(example, self._spec.learns, self._spec.labels)
        self._counts.formats[format_.value] = self._counts.formats.get(format_.value, 0) + 1
        for conversation in made.conversations:
            for step, fault in self._looks:
                if (reason := fault(conversation)) is not None:
                    raise RowError(reason, step=step)
        return made

    def _encode(self, usable: list[tuple[Row, int, Learnt]]) -> None:
        conversations = [conversation for _, _, example in usable for conversation in example.conversations]
        each = self._spec.learns.rows_per_example
        encode = self._encoder.encode_texts if self._spec.learns.labels_texts else self._encoder.encode_all
        encoded = encode(conversations)
        firsts = conversations[::each]
        common = [None] * len(usable) if self._held_out is None else self._held_out.common(firsts)
        made = encoded if each == 1 else [encoded[at : at + each] for at in range(0, len(encoded), each)]
        for (row, line, example), rows, words in zip(usable, made, common, strict=True):
            try:
                self._keep(row, line, example, fitted(rows, self._spec), words)
            except RowError as error:
                self._refuse(row, line, error)

    def _keep(self, row: Row, line: int, example: Learnt, stored: Fitted, words: str | None) -> None:
        """Store a row; `words` are those that a held-out one has, too."""
        if words is not None:
            error = RowError(f"has words in common with a held-out row: {words!r}", step=Step.contaminated)
            if self._clean.contamination is Fix.stop:
                raise error
            # It may yet turn out to be a duplicate, which comes first.
            self._writer.refuse("suspects", _entry(row, line, error))
        first = example.conversations[0]
        target = np.array(example.target, dtype=np.float32) if example.target else None
        turns = len(first.messages) or 1
        self._writer.add(stored, line=line, turns=turns, suspect=words is not None, target=target)
        if self._spec.slices:
            self._writer.slice([value_of(row.value, field) for field in self._spec.slices])
        if self._marks:
            keys, signature = (None, None) if self._similar is None else self._similar.marks(first)
            self._writer.mark(digest(*example.conversations), keys, signature)
        counts = self._counts
        counts.rows += 1
        for part in stored.rows:
            counts.tokens += len(part.tokens)
        counts.untrained_pieces += stored.untrained

    def _refuse(self, row: Row, line: int, error: RowError) -> None:
        # What follows such a row is lost, and nobody knows how much that is.
        if isinstance(error, LostRows) or self._fix(error.step) is Fix.stop:
            if len(self._outcome.faults) < MOST_FAULTS:
                self._outcome.faults.append(_fault(row, error))
            return
        self._counts.refused[error.step.value] = self._counts.refused.get(error.step.value, 0) + 1
        self._writer.refuse("refused", _entry(row, line, error))

    def _fix(self, step: Step) -> Fix:
        """What the config wants for rows of that step; a row that cannot be read or stored cannot be kept either."""
        return {
            Step.broken: self._clean.broken,
            Step.encoding: self._clean.encoding,
            Step.empty: self._clean.empty,
            Step.role_order: self._clean.role_order,
            Step.contaminated: self._clean.contamination,
            Step.overlong: Fix.stop if self._spec.overlong is Overlong.stop else Fix.drop,
        }.get(step, Fix.drop)


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in lists that are worth a call and no burden on memory."""
    batch: list[Row] = []
    chars = 0
    for row in rows:
        batch.append(row)
        chars += len(row.raw)
        if len(batch) == _BATCH_ROWS or chars >= _BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _entry(row: Row, line: int, error: RowError) -> dict[str, object]:
    return {"line": line, "step": error.step.value, "reason": error.reason, "row": content(row)}


def content(row: Row) -> object:
    """What the file of rejected rows holds of a row: its fields, or its text where it has none."""
    return row.raw if row.value is None else row.value


def _fault(row: Row, error: RowError) -> Fault:
    cut = row.raw.strip()[:_EXCERPT_CHARS]
    excerpt = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
    excerpt += "…" if len(row.raw.strip()) > len(cut) else ""
    return Fault(place=row.place, excerpt=excerpt, reason=error.reason, valid=error.valid, remedy=error.remedy)
