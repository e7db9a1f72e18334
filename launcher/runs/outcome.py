"""How an attempt ended: the record that the epilogue writes and that status reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum

from launcher.decode import decode
from launcher.publish import publish_json
from launcher.rundir import AttemptDir
from launcher.runplan import plain


class Ending(Enum):
    """The three ways."""

    completed = "completed"
    """All steps done."""
    stopped = "stopped"
    """Told to stop; a checkpoint was written at the step it stopped."""
    failed = "failed"
    """Anything else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """outcome.json of one attempt."""

    attempt: int
    """Number of the attempt."""
    job_id: str
    """Job that carried it."""
    state: Ending
    """How it ended."""
    reason: str
    """Why, in words."""
    exit_code: int
    """Of the ranks together."""
    step: int | None
    """Optimiser steps done when it ended, as far as known."""
    ended: float
    """Unix time."""

    def write(self, attempt: AttemptDir) -> None:
        """Publish it in the attempt's folder."""
        publish_json(attempt.outcome, plain(self))

    @classmethod
    def read(cls, attempt: AttemptDir) -> Outcome | None:
        """The attempt's outcome; None while it runs, or if nobody lived to write one."""
        if not attempt.outcome.is_file():
            return None
        return decode(cls, json.loads(attempt.outcome.read_text(encoding="utf-8")))
