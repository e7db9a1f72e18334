"""Host memory that was freed, given back to the machine."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """Have the C library return what it keeps of freed memory, where it can.

    A model is cut into partitions one weight at a time, and gradients come one by one: what is freed between them stays
    with the process, or does not, by what happens to lie above it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
