"""Making the next items while the current one is used, in one background thread.

Owns the thread and its end. Must not know what the items are.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_S = 0.1
# A read that hangs on a dead file system must not hold up the end of a job; the thread is a daemon.
_JOIN_S = 5.0


class _End:
    """The last thing in the queue: why the items stopped."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Prefetcher(Generic[Item]):
    """An iterator over `source`, up to `depth` items ahead of its reader.

    An exception in `source` is raised to the reader, after the items made before it. Use as a context manager or call
    `close`; both stop the thread and close a generator `source`.
    """

    def __init__(self, source: Iterator[Item], depth: int) -> None:
        assert depth > 0, "a prefetch of nothing would wait for ever"
        self._source = source
        self._queue: queue.Queue[Item | _End] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Prefetcher[Item]:
        return self

    def __next__(self) -> Item:
        if self._stop.is_set():
            raise StopIteration
        item = self._queue.get()
        if not isinstance(item, _End):
            return item
        self._stop.set()
        if item.error is not None:
            raise item.error
        raise StopIteration

    def __enter__(self) -> Prefetcher[Item]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop the thread, throw away what it made ahead; harmless when repeated."""
        self._stop.set()
        self._thread.join(_JOIN_S)

    def _fill(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._source:
                if not self._put(item):
                    break
        except BaseException as raised:  # handed to the reader, whose business it is
            error = raised
        finally:
            if isinstance(self._source, Generator):
                self._source.close()
            self._put(_End(error))

    def _put(self, item: Item | _End) -> bool:
        """Wait for a place in the queue; False once nobody reads any more."""
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=_POLL_S)
                return True
        return False


def prefetch(source: Iterator[Item], depth: int = 2) -> Prefetcher[Item]:
    """Run `source` in a background thread, at most `depth` items ahead."""
    return Prefetcher(source, depth)
