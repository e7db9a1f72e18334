"""What a data set is made of: the words a config uses for it, frozen.

Owns the description only. Must not know how rows are read, rendered or stored, and imports nothing heavy: the login
machine loads this file. Names of enum members equal their values, because OmegaConf matches by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Format(Enum):
    """Row shapes."""

    auto = "auto"
    messages = "messages"
    sharegpt = "sharegpt"
    alpaca = "alpaca"
    prompt_completion = "prompt_completion"
    text = "text"
    preference = "preference"
    judged = "judged"
    labelled = "labelled"


class Unit(Enum):
    """What is one row of a plain text file."""

    line = "line"
    paragraph = "paragraph"
    file = "file"


class TrainOn(Enum):
    """Which tokens of a conversation carry loss. A prompt and its completion train on the completion, text on all."""

    assistant = "assistant"
    """Every assistant turn."""
    last = "last"
    """The last assistant turn."""
    all = "all"
    """Every token."""
    flags = "flags"
    """Messages with `"train": true`."""


class Learns(Enum):
    """What a row is to the objective."""

    answers = "answers"
    """A conversation or a text, learnt token by token."""
    pairs = "pairs"
    """A better and a worse answer to the same, stored one after the other."""
    judged = "judged"
    """An answer, and whether it is a good one."""
    classes = "classes"
    """A text and the one class that it belongs to."""
    sets = "sets"
    """A text and the classes, any number of them, that it belongs to."""
    values = "values"
    """A text and a number."""

    @property
    def rows_per_example(self) -> int:
        """Rows stored for each that is read."""
        return 2 if self is Learns.pairs else 1

    @property
    def labels_texts(self) -> bool:
        """Whether a row is a text as the tokenizer by itself would give it to a model, and its label."""
        return self in (Learns.classes, Learns.sets, Learns.values)


class Overlong(Enum):
    """What happens to a row of more than `seq_len` tokens."""

    drop = "drop"
    truncate_right = "truncate_right"
    """Keep its beginning."""
    truncate_left = "truncate_left"
    """Keep its end."""
    split = "split"
    """Cut it into rows of `seq_len`, none thrown away."""
    stop = "stop"


class Fix(Enum):
    """What happens to rows that a cleaning step finds."""

    keep = "keep"
    """They are trained on; nobody looks."""
    drop = "drop"
    """They go to the file of rejected rows."""
    stop = "stop"
    """Nothing is prepared while there are any."""


class Duplicates(Enum):
    """Which rows count as one; the first of them stays."""

    keep = "keep"
    """All rows stay."""
    exact = "exact"
    """Rows with the same words."""
    near = "near"
    """Rows with nearly the same words, too (MinHash)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanConfig:
    """Cleaning, step by step, in this order; every step counts what it takes."""

    broken: Fix
    """Rows that cannot be read: not JSON, not UTF-8, fields missing or of the wrong type."""
    encoding: Fix
    """Text with replacement or control characters: it was decoded wrongly before."""
    empty: Fix
    """Answers, prompts or texts without a word."""
    role_order: Fix
    """Turns out of order: a system message in the middle, two users in a row, an answer to nobody."""
    min_tokens: int
    """Rows with fewer tokens are dropped."""
    duplicates: Duplicates
    """Rows that are there already."""
    similarity: float
    """Share of common word 5-grams (Jaccard) from which on rows are near duplicates."""
    contamination: Fix
    """Training rows that share `ngram` words in a row with a held-out one."""
    ngram: int
    """Words; 13 as for GPT-3 (Brown et al., 2020, appendix C)."""
    most_broken: float
    """Nothing is prepared if more than this share of a source is broken: it is most likely read in the wrong way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hub:
    """A data set of the Hugging Face hub."""

    name: str
    """OWNER/NAME."""
    config: str | None
    """Its subset."""
    split: str
    """Its split."""
    revision: str | None
    """Commit, tag or branch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Files of one kind, or a data set of the hub."""

    name: str
    """As reports call it: what the user wrote."""
    paths: tuple[str, ...] = ()
    """The files, in order; where they lie does not change what is made of them."""
    hub: Hub | None = None
    """The data set of the hub that is read instead."""
    format: Format = Format.auto
    """How its rows are shaped; `auto` looks at each row's fields."""
    columns: dict[str, str] = field(default_factory=dict)
    """The format's field to the file's column: {prompt: question}."""
    unit: Unit = Unit.line
    """What is a row of a text file."""
    limit: int | None = None
    """Use only the first so many rows; None is all."""
    weight: float | None = None
    """Share of the samples that come from here, among the sources' weights; None is as many as it has."""
    count: int | None = None
    """Samples an epoch that come from here, however many it has."""
    tags: dict[str, str] = field(default_factory=dict)
    """What is true of all its rows, for reports and slices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSpec:
    """Everything that determines the tokenised result; `weight`, `count` and `tags` of a source do not."""

    sources: tuple[Source, ...]
    """Read one after another, in this order."""
    held_out: tuple[Source, ...]
    """Rows that must not be among them."""
    tokenizer: str
    """A folder with `tokenizer.json`, or a hub id."""
    chat_template: str | None
    """Path of a Jinja file; None takes the tokenizer's own template."""
    train_on: TrainOn
    """Which tokens carry loss."""
    seq_len: int
    """The most tokens a row may have."""
    overlong: Overlong
    """What happens to a longer row."""
    clean: CleanConfig
    """What rows must be like."""
    learns: Learns = Learns.answers
    """What a row is."""
    labels: tuple[str, ...] = ()
    """The classes, in the order in which they are numbered."""
    slices: tuple[str, ...] = ()
    """Fields whose values are kept for each row."""

    @property
    def target_width(self) -> int:
        """Numbers stored for each example, beside its tokens: a class's place, 0 or 1 for each class or for bad and
        good, or a value."""
        widths = {Learns.judged: 1, Learns.classes: 1, Learns.values: 1, Learns.sets: len(self.labels)}
        return widths.get(self.learns, 0)
