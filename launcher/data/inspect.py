"""Rows as training sees them: text, cut where the loss begins and ends.

Owns the way back from tokens to words. Must not know what it looks like on a screen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from launcher.data.tokens import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """Neighbouring tokens that carry loss, or do not."""

    text: str
    """What they say, special tokens included."""
    trained: bool
    """Whether they carry loss."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One row."""

    row: int
    """Its number."""
    source: str
    """Where it comes from."""
    tokens: int
    """Its length."""
    trained: int
    """Tokens that carry loss."""
    stretches: tuple[Stretch, ...]
    """What it says."""


def shown(store: TokenStore, tokenizer: PreTrainedTokenizerFast, count: int) -> Iterator[Shown]:
    """`count` rows, evenly spread over all of them."""
    total = len(store)
    for place in range(min(count, total)):
        yield _shown(store, tokenizer, place * total // min(count, total))


def _shown(store: TokenStore, tokenizer: PreTrainedTokenizerFast, row: int) -> Shown:
    ids, trained = store.row(row)
    stretches = []
    for flag, places in itertools.groupby(range(len(ids)), key=lambda place: bool(trained[place])):
        text = tokenizer.decode([int(ids[place]) for place in places], skip_special_tokens=False)
        assert isinstance(text, str)
        stretches.append(Stretch(text=text, trained=flag))
    return Shown(
        row=row,
        source=_source(store, row),
        tokens=len(ids),
        trained=int(trained.sum()),
        stretches=tuple(stretches),
    )


def _source(store: TokenStore, row: int) -> str:
    ends = itertools.accumulate(source.rows for source in store.meta.sources)
    return next(source.name for source, end in zip(store.meta.sources, ends, strict=True) if row < end)
