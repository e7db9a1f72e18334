"""Rules that many keys share. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.errors import Problem

AUTO = "auto"
"""Stands for a number that is worked out."""

LARGEST = 10**15
"""Larger than any number of steps, tokens or seconds; what is reckoned from it stays a number."""
LEAST_RATE = 1e-3


def positive(where: str, value: float | None, *, zero_allowed: bool = False) -> Iterator[Problem]:
    """A number above zero, where there is one."""
    if value is not None and value > LARGEST:
        yield Problem(where=where, message=f"{str(value)[:24]} is out of range", valid=f"at most {LARGEST:.0e}")
    if value is not None and (value < 0 or (value == 0 and not zero_allowed)):
        valid = "0 or more" if zero_allowed else "more than 0"
        yield Problem(where=where, message=f"{value} is out of range", valid=valid)


def rate(where: str, value: float | None) -> Iterator[Problem]:
    """What times are divided by."""
    if value is not None and not LEAST_RATE <= value <= LARGEST:
        yield Problem(where=where, message=f"{value} is out of range", valid=f"{LEAST_RATE:g} or more")


def share(where: str, value: float) -> Iterator[Problem]:
    """A part of a whole."""
    if not 0 <= value <= 1:
        yield Problem(where=where, message=f"{value} is not a share", valid="a number from 0 to 1")
