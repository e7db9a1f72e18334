"""What a data set is made of: the words a config uses for it, frozen.

Owns the description only. Must not know how rows are read, rendered or stored, and imports nothing heavy: the login
machine loads this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Format(Enum):
    """The row shapes that supervised fine-tuning accepts; names equal values, because OmegaConf matches by name."""

    auto = "auto"
    messages = "messages"
    prompt_completion = "prompt_completion"
    alpaca = "alpaca"


class Overlong(Enum):
    """What happens to a row of more than `seq_len` tokens."""

    drop = "drop"
    truncate = "truncate"
    error = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One JSONL file."""

    path: str
    """The file; where it lies does not change what is made of it."""
    format: Format = Format.auto
    """How its rows are shaped; `auto` looks at each row's fields."""
    limit: int | None = None
    """Use only the first so many rows; None is all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpec:
    """Everything that determines the tokenised result, and nothing else."""

    sources: tuple[Source, ...]
    """Read one after another, in this order."""
    tokenizer: str
    """A folder with `tokenizer.json`, or a hub id."""
    chat_template: str | None
    """Path of a Jinja file; None takes the tokenizer's own template."""
    seq_len: int
    """The most tokens a row may have."""
    overlong: Overlong
    """What happens to a longer row."""
