"""Telling a person how far a preparation is.

Owns the looks: a bar on a terminal, a line now and then in a log. Must not know what is being done.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TextIO

_LINE_EVERY_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far it is."""

    bytes_done: int
    """Bytes of the sources that are tokenised."""
    bytes_total: int
    """Bytes of all sources."""
    rows: int
    """Rows read."""
    tokens: int
    """Tokens made."""
    tokens_before: int = 0
    """Those of them that an earlier start had made, and that say nothing of the rate."""


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The report that tells nobody."""


@contextlib.contextmanager
def shown(stream: TextIO) -> Iterator[Report]:
    """A report that shows on `stream`: one moving bar on a terminal, else a plain line at most every ten seconds."""
    if not stream.isatty():
        yield _lines(stream)
        return
    from tqdm import tqdm

    with tqdm(desc="tokenising", unit="B", unit_scale=True, file=stream) as bar:
        started = time.monotonic()

        def draw(progress: Progress) -> None:
            bar.total = progress.bytes_total
            rate = (progress.tokens - progress.tokens_before) / max(time.monotonic() - started, 1e-9)
            bar.set_postfix_str(f"{progress.rows:,} rows, {rate:,.0f} tokens/s", refresh=False)
            bar.update(progress.bytes_done - bar.n)

        yield draw


def _lines(stream: TextIO) -> Report:
    started = last = time.monotonic()

    def write(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _LINE_EVERY_S and progress.bytes_done < progress.bytes_total:
            return
        last = now
        share = 100 * progress.bytes_done // max(progress.bytes_total, 1)
        rate = (progress.tokens - progress.tokens_before) / max(now - started, 1e-9)
        print(f"tokenised {share} %: {progress.rows:,} rows, {rate:,.0f} tokens/s", file=stream, flush=True)

    return write
