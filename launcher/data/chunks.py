"""Tokenising one byte range of one source into part files: what a single worker process does.

Owns the work between a line and its tokens. Must not know other chunks, line numbers or the cache.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from launcher.data.encode import Encoded, Encoder, load_encoder
from launcher.data.formats import to_conversation
from launcher.data.jsonl import Fault, parse_line, read_lines
from launcher.data.reject import RowError
from launcher.data.source import DataSpec, Overlong, Source, TrainOn
from launcher.errors import Problem, UserError

MOST_FAULTS = 10
PART_SUFFIXES = ("tokens", "trained", "lengths", "counts")
"""A part's files: uint32 ids, uint8 mask, int32 tokens per row, int32 trained tokens per row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """One worker's share of a source."""

    number: int
    """Place among all chunks; results are put together in this order."""
    source: Source
    """Whose rows they are."""
    path: str
    """The file of it that they are in."""
    start_byte: int
    """The chunk has the lines that start at this byte or after it …"""
    end_byte: int
    """… and before this one."""


@dataclass(kw_only=True, slots=True)
class Part:
    """What became of a chunk; its tokens are in the part files."""

    rows_in: int = 0
    """Rows read."""
    rows: int = 0
    """Rows kept."""
    dropped_overlong: int = 0
    """Rows longer than `seq_len`, left out."""
    dropped_untrained: int = 0
    """Rows that truncation left without a trained token, left out."""
    truncated: int = 0
    """Rows kept, cut to `seq_len`."""
    tokens: int = 0
    """Tokens kept."""
    trained_tokens: int = 0
    """Those that carry loss."""
    longest: int = 0
    """Tokens of the longest row kept."""
    faults: list[Fault] = field(default_factory=list)
    """Rows that cannot be used; the chunk stops at the tenth."""
    problems: tuple[Problem, ...] = ()
    """What makes every row unusable; errors lose their fields on the way between processes, so it travels as data."""


def create_private(path: Path) -> BinaryIO:
    """A new file of mode 0600, open for writing."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def part_file(folder: Path, number: int, suffix: str) -> Path:
    """Where chunk `number` leaves one of its files."""
    return folder / f"part-{number:06d}.{suffix}"


def tokenise_in_worker(spec: DataSpec, chunk: Chunk, folder: Path) -> Part:
    """`tokenise` in a pool process, which keeps its tokenizer from chunk to chunk."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        return tokenise(spec, chunk, folder, _worker_encoder(spec.tokenizer, spec.chat_template, spec.train_on))
    except UserError as error:
        return Part(problems=error.problems)


@functools.lru_cache(maxsize=1)
def _worker_encoder(tokenizer: str, chat_template: str | None, train_on: TrainOn) -> Encoder:
    return load_encoder(tokenizer, chat_template, train_on)


def tokenise(spec: DataSpec, chunk: Chunk, folder: Path, encoder: Encoder) -> Part:
    """Write the chunk's part files and count; UserError where no row of this source could be encoded."""
    part = Part()
    paths = [part_file(folder, chunk.number, suffix) for suffix in PART_SUFFIXES]
    with contextlib.ExitStack() as stack:
        tokens, trained, lengths, counts = [stack.enter_context(create_private(path)) for path in paths]
        for row in _encoded_rows(spec, chunk, encoder, part):
            count = int(row.trained.sum())
            tokens.write(row.ids.tobytes())
            trained.write(row.trained.tobytes())
            lengths.write(np.int32(len(row.ids)).tobytes())
            counts.write(np.int32(count).tobytes())
            part.rows += 1
            part.tokens += len(row.ids)
            part.trained_tokens += count
            part.longest = max(part.longest, len(row.ids))
    return part


def _encoded_rows(spec: DataSpec, chunk: Chunk, encoder: Encoder, part: Part) -> Iterator[Encoded]:
    """The chunk's usable rows at their final length; the others are counted or noted in `part`."""
    for offset, line in read_lines(Path(chunk.path), chunk.start_byte, chunk.end_byte):
        part.rows_in += 1
        try:
            encoded = encoder.encode(to_conversation(parse_line(line), chunk.source.format))
            fitted = _fit(encoded, spec, part)
        except RowError as error:
            part.faults.append(Fault.of(error, offset, line))
            if len(part.faults) == MOST_FAULTS:
                return
            continue
        if fitted is not None:
            yield fitted


def _fit(encoded: Encoded, spec: DataSpec, part: Part) -> Encoded | None:
    """The row within `seq_len`; None where it is dropped, RowError where that is an error."""
    length = len(encoded.ids)
    if length <= spec.seq_len:
        return encoded
    if spec.overlong is Overlong.stop:
        raise RowError(f"{length} tokens, more than data.seq_len={spec.seq_len}, and data.overlong=stop")
    if spec.overlong is Overlong.drop:
        part.dropped_overlong += 1
        return None
    cut = Encoded(ids=encoded.ids[: spec.seq_len], trained=encoded.trained[: spec.seq_len])
    if not cut.trained.any():
        part.dropped_untrained += 1
        return None
    part.truncated += 1
    return cut
