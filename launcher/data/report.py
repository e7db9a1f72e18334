"""What is in a prepared data set, in numbers, and whether training on it would make sense.

Owns the arithmetic and the judgement. Must not know how it looks, nor how rows became tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from launcher.data.reject import Step
from launcher.data.source import DataSpec
from launcher.data.tokens import Meta, SourceMeta, TokenStore
from launcher.errors import Problem
from launcher.plain import plain

LITTLE_TRAINED = 0.01
"""With a smaller share of trained tokens, nearly all of the computing is spent on prompts."""
MUCH_LEAKED = 0.5
"""If more training rows than this share of the held-out ones give those away, the one set lies inside the other."""
MANY_REJECTED = 0.1
"""A larger share of rejected rows is worth a look."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetReport:
    """One prepared data set: the training rows, or the held-out ones."""

    name: str
    """`train`, `eval` or `eval_NAME`."""
    folder: str
    """Where it is prepared."""
    rows_in: int
    """Rows read."""
    rows: int
    """Rows stored."""
    rejected: dict[str, int]
    """Rows that are not trained on, by step."""
    truncated: int
    """Rows cut to `seq_len`."""
    split: int
    """Rows cut into several."""
    tokens: int
    """Tokens stored."""
    trained_tokens: int
    """Those of them that carry loss."""
    longest: int
    """Tokens of the longest row."""
    examples: int
    """What the objective sees as one: a row stored, or a pair of them."""
    labelled: bool
    """Whether only a row's last token carries loss, for what the row is labelled with."""
    packs: int
    """Sequences that the rows fill when packed."""
    fill: float
    """Share of these sequences that tokens fill."""
    lengths: dict[str, int]
    """Rows by tokens: the least tokens of a bin to the rows in it."""
    turns: dict[str, int]
    """Rows by turns."""
    sources: tuple[SourceMeta, ...]
    """The same by source."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A run's data."""

    sets: tuple[SetReport, ...]
    """Training rows first."""
    packing: bool
    """Whether the run packs."""
    samples_per_epoch: int
    """Sequences of an epoch."""
    steps_per_epoch: int
    """Optimiser steps of an epoch."""
    tokens_per_epoch: int
    """Tokens of an epoch."""
    faults: tuple[Problem, ...]
    """Why training would be pointless."""
    warnings: tuple[Problem, ...]
    """What is worth a look."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain values."""
        document: dict[str, Any] = plain(self)
        return document


def set_report(name: str, folder: str, meta: Meta, spec: DataSpec) -> SetReport:
    """What `meta` tells of `spec`, with what follows from it."""
    packs = sum(source.packs for source in meta.sources)
    return SetReport(
        name=name,
        folder=folder,
        rows_in=meta.rows_in,
        rows=meta.rows,
        rejected=dict(meta.rejected),
        truncated=meta.truncated,
        split=meta.split,
        tokens=meta.tokens,
        trained_tokens=meta.trained_tokens,
        longest=meta.longest,
        examples=meta.rows // meta.rows_per_example,
        labelled=meta.target_width > 0,
        packs=packs,
        fill=meta.tokens / (packs * spec.seq_len * meta.rows_per_example) if packs else 0.0,
        lengths=meta.lengths,
        turns=meta.turns,
        # Whoever prepared it first may have called them otherwise.
        sources=tuple(
            replace(found, name=source.name, tags=source.tags)
            for found, source in zip(meta.sources, spec.sources, strict=True)
        ),
    )


def report(sets: tuple[SetReport, ...], *, packing: bool, global_batch_size: int, shared: int = 0) -> Report:
    """The report on a run's prepared sets, training rows first; `shared` held-out rows are trained on as well."""
    train = sets[0]
    leaked = _leaked(sets, shared)
    samples = train.packs if packing else train.examples
    return Report(
        sets=sets,
        packing=packing,
        samples_per_epoch=samples,
        steps_per_epoch=math.ceil(samples / global_batch_size),
        tokens_per_epoch=train.tokens,
        faults=leaked if leaked and _found(sets, shared) > MUCH_LEAKED * _held_out_rows(sets) else (),
        warnings=(*leaked, *_warnings(sets, samples, global_batch_size)),
    )


def shared_rows(train: TokenStore, *held_out: TokenStore) -> int:
    """Held-out rows that are training rows, token by token. Reads every training row once."""
    if not held_out:
        return 0
    wanted = {_digest(store, row) for store in held_out for row in range(len(store))}
    trained = (_digest(train, row) for row in range(len(train)))
    return len(wanted.intersection(trained))


def _digest(store: TokenStore, row: int) -> bytes:
    return hashlib.blake2b(store.row(row)[0].tobytes(), digest_size=16).digest()


def _held_out_rows(sets: tuple[SetReport, ...]) -> int:
    return sum(one.rows for one in sets[1:])


def _found(sets: tuple[SetReport, ...], shared: int) -> int:
    """Training rows, kept or dropped, that give held-out ones away."""
    return shared + sets[0].rejected.get(Step.contaminated.value, 0)


def _leaked(sets: tuple[SetReport, ...], shared: int) -> tuple[Problem, ...]:
    found = _found(sets, shared)
    if len(sets) < 2 or not found:
        return ()
    dropped = found - shared
    fate = f"{dropped:,} of them were dropped (data.clean.contamination)" if dropped else "they are trained on"
    return (
        Problem(
            where="data.eval",
            message=f"{found:,} training rows hold words of the {_held_out_rows(sets):,} held-out ones; {fate}",
            remedy="hold out rows that are not among the training rows",
        ),
    )


def _warnings(sets: tuple[SetReport, ...], samples: int, global_batch_size: int) -> Iterator[Problem]:
    for one in sets:
        key = f"data.{one.name.replace('eval_', 'eval.', 1)}"
        if not one.labelled and one.trained_tokens < LITTLE_TRAINED * one.tokens:
            share = f"{one.trained_tokens:,} of {one.tokens:,} tokens carry loss"
            yield Problem(where=key, message=share, remedy="data.train_on=all trains on prompts as well")
        gone = sum(count for step, count in one.rejected.items() if step != Step.duplicate.value)
        if gone > MANY_REJECTED * one.rows_in:
            reasons = ", ".join(f"{step} {count:,}" for step, count in one.rejected.items() if count)
            message = f"{gone:,} of {one.rows_in:,} rows are not trained on ({reasons})"
            yield Problem(where=key, message=message, remedy=f"{one.folder}/rejected.jsonl has them, with reasons")
    if samples < global_batch_size:
        yield Problem(
            where="train.global_batch_size",
            message=f"an epoch has {samples:,} sequences, fewer than one step of {global_batch_size:,}",
            remedy="every row is seen several times in the first step already: lower it",
        )
