"""Answers of the disk that are kept while many plans are made at once: members of a sweep ask the same questions.

Ground floor. Outside `remembering` nothing is kept, so that nobody else is told yesterday's news.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_kept: ContextVar[dict[Any, Any] | None] = ContextVar("kept", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Until the block ends, every `remembered` function is called once for equal arguments.

    Inside another such block it is that one's end that counts.
    """
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Keep the function's answers inside `remembering`.

    Arguments are told apart by their `repr`; nobody may change an answer, for the next one gets it too.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        kept = _kept.get()
        if kept is None:
            return function(*args, **kwargs)
        key = (function, repr(args), repr(kwargs))
        if key not in kept:
            kept[key] = function(*args, **kwargs)
        answer: T = kept[key]
        return answer

    return wrapper
