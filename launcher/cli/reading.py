"""How far the reading of many bytes is: a bar with rate and time left on a terminal, else a line now and then."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from launcher.runs.words import duration, size

LINE_EVERY_S = 10.0


@contextlib.contextmanager
def reading_shown(stream: TextIO, total: int) -> Iterator[Callable[[int], None]]:
    """Yields what is to be told of every bytes read, from any thread. A line comes only where it takes long."""
    if not stream.isatty():
        yield _Lines(stream, total).read
        return
    from tqdm import tqdm

    lock = threading.Lock()
    with tqdm(desc="verifying", total=total, unit="B", unit_scale=True, file=stream, leave=False) as bar:

        def draw(count: int) -> None:
            with lock:
                bar.update(count)

        yield draw


class _Lines:
    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._done = 0
        self._started = self._last = time.monotonic()
        self._lock = threading.Lock()

    def read(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now - self._last < LINE_EVERY_S:
                return
            self._last = now
            rate = self._done / (now - self._started)
            left = duration(max(0, self._total - self._done) / rate) if rate else "?"
            text = f"verified {size(self._done)} of {size(self._total)}, {size(rate)}/s, {left} left"
            print(text, file=self._stream, flush=True)
