"""The errors a person sees, and the exit code of each kind.

Owns the wording's shape: what is wrong, where, what would be valid, what to do. Knows nothing of who raises them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from launcher.failures import FailureClass


class ExitCode(IntEnum):
    """What a `launcher` process tells its caller."""

    DONE = 0
    BUG = 1
    USER_INPUT = 2
    NOT_FOUND = 3
    CLUSTER = 4
    DOES_NOT_HOLD = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong, in the words of the person who can mend it."""

    where: str
    """The config key, or file and line, that is at fault."""
    message: str
    """What is wrong with it, with the value seen."""
    valid: str = ""
    """What would be valid, closest first."""
    remedy: str = ""
    """What to type or do next."""

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.message}"]
        if self.valid:
            lines.append(f"    valid: {self.valid}")
        if self.remedy:
            lines.append(f"    do:    {self.remedy}")
        return "\n".join(lines)


class LauncherError(Exception):
    """Base of every error that is shown without a traceback."""

    exit_code = ExitCode.BUG
    failure: FailureClass | None = None
    """What an attempt that ends of it died of, where the kind of error says so."""
    node: str | None = None
    """Node at fault, where the error knows one."""
    warnings: Sequence[Problem] = ()
    """What is likely wrong besides."""

    def __init__(self, *problems: Problem) -> None:
        assert problems, "an error without a problem tells nobody anything"
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class UserError(LauncherError):
    """The input is wrong: config, data, paths."""

    failure = FailureClass.user_error
    exit_code = ExitCode.USER_INPUT


class StorageError(UserError):
    """A file system took no more: full, over quota, read-only or gone."""

    failure = FailureClass.disk_full


class NumberError(LauncherError):
    """The loss is not a number, or has jumped, and there is nothing to go back to."""

    failure = FailureClass.not_a_number
    exit_code = ExitCode.DOES_NOT_HOLD


class NotFoundError(LauncherError):
    """The run, checkpoint or recipe that was named does not exist."""

    exit_code = ExitCode.NOT_FOUND


class ClusterError(LauncherError):
    """The cluster refused, or cannot be reached."""

    exit_code = ExitCode.CLUSTER


class DoesNotHoldError(LauncherError):
    """What was asked about is not so: a followed run failed, a checkpoint did not verify."""

    exit_code = ExitCode.DOES_NOT_HOLD


NEAR = 0.5
"""Share of letters that two names must have in common for one to be a misspelling of the other (difflib's ratio)."""


def is_near(wrong: str, right: str) -> bool:
    """Whether `wrong` looks like a misspelling of `right`."""
    return bool(difflib.get_close_matches(wrong, [right], cutoff=NEAR))


def closest_first(wrong: str, valid: Iterable[str], limit: int = 5) -> Sequence[str]:
    """Up to `limit` of `valid`, the ones nearest to `wrong` in spelling first."""
    pool = list(valid)
    near = difflib.get_close_matches(wrong, pool, n=limit, cutoff=NEAR)
    return near + [name for name in pool if name not in near][: limit - len(near)]
