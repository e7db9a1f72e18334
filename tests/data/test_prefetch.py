"""The background thread: order, errors, end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from launcher.data.feed.prefetch import prefetch


def prefetch_threads() -> int:
    return sum(thread.name == "prefetch" for thread in threading.enumerate())


def test_items_come_in_order_and_then_end() -> None:
    with prefetch(iter(range(100)), depth=3) as items:
        assert list(items) == list(range(100))
        assert list(items) == []


def test_an_error_reaches_the_reader_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with prefetch(source()) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="the disk is gone"):
            next(items)


def test_no_more_is_made_than_asked_for() -> None:
    made: list[int] = []
    fourth = threading.Event()

    def source() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            if number == 3:
                fourth.set()
            yield number

    with prefetch(source(), depth=2) as items:
        next(items)
        assert fourth.wait(5)  # one read, two in the queue, one waiting for a place
        assert len(made) == 4


def test_closing_ends_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    items = prefetch(source(), depth=1)
    next(items)
    items.close()
    items.close()
    assert closed.is_set()
    assert prefetch_threads() == 0
    assert list(items) == []
