"""The same work on many items, in this process or in several.

Owns the worker processes. Must not know what the work is.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from launcher.errors import LauncherError, Problem, UserError

Given = TypeVar("Given")
Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    work: Callable[[Given, Item], Result], given: Given, items: Iterable[Item], workers: int, start: Callable[[], None]
) -> Generator[Result, None, None]:
    """`work(given, item)` of each item, in order; with one worker in this process, else after `start()` in others.

    Never more than two items per worker ahead of the reader. UserError as `work` raises it.
    """
    if workers == 1:
        for item in items:
            yield work(given, item)
        return
    # Not fork: a training process has threads and perhaps CUDA, neither of which survives it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(start, given))
    waiting: deque[Future[Result | _Refused]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_guarded, work, item))
            if len(waiting) > 2 * workers:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    except BrokenProcessPool:
        message = f"one of {workers} tokenising processes was killed, most often for want of memory"
        raise LauncherError(Problem(where="data", message=message, remedy="use fewer workers")) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _Refused:
    """A UserError on its way between processes: exceptions lose their fields there."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems


_GIVEN: list[Any] = []
"""What all items of a worker process share; it may be large, so it comes once."""


def _guarded(work: Callable[[Given, Item], Result], item: Item) -> Result | _Refused:
    try:
        return work(_GIVEN[0], item)
    except UserError as error:
        return _Refused(error.problems)


def _result(future: Future[Result | _Refused]) -> Result:
    result = future.result()
    if isinstance(result, _Refused):
        raise UserError(*result.problems)
    return result


def _begin(start: Callable[[], None], given: object) -> None:
    _GIVEN.append(given)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    start()


def _leave_with_parent() -> None:
    """End this process when the one that started it is gone: a killed one can tell nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
