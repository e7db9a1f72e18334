"""How an attempt ended: the words its ranks left, and the outcome made of them, which everything else reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum

from launcher.config.survival import Action
from launcher.decode import decode
from launcher.failures import FailureClass
from launcher.plain import plain
from launcher.publish import publish_json, publish_json_once
from launcher.rundir import AttemptDir, RunDir


class Ending(Enum):
    """The three ways."""

    completed = "completed"
    """All steps done."""
    stopped = "stopped"
    """Told to stop; a checkpoint was written at the step it stopped."""
    failed = "failed"
    """Anything else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankWord:
    """rank-00000.json: how a rank ended, by its own word."""

    rank: int
    """Global rank."""
    host: str
    """Node, as the cluster calls it."""
    pid: int
    """Process on that node."""
    time: float
    """Unix time."""
    state: Ending
    """How it ended."""
    failure: FailureClass | None
    """What it takes for the cause; None unless it failed or was told to leave."""
    reason: str
    """Why, in words."""
    step: int | None
    """Optimiser steps done, as far as it knows."""
    blames: str | None = None
    """Node that it holds to be at fault, where that is known and may be another than its own."""

    def write(self, attempt: AttemptDir) -> None:
        """Publish it in the attempt's folder."""
        publish_json(attempt.rank_record(self.rank), plain(self))


def rank_words(attempt: AttemptDir) -> list[RankWord]:
    """The words of the ranks that had time for one."""
    return [
        decode(RankWord, json.loads(file.read_text(encoding="utf-8")))
        for file in sorted(attempt.root.glob("rank-*.json"))
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """outcome.json of one attempt."""

    attempt: int
    """Number of the attempt."""
    job_id: str
    """Job that carried it."""
    state: Ending
    """How it ended."""
    failure: FailureClass | None
    """Why it ended before its work was done; None if it did not, or if its user told it to stop."""
    reason: str
    """Why, in words."""
    node: str | None
    """Node at fault, where one is."""
    rank: int | None
    """Rank at fault, where one is."""
    exit_code: int
    """Of the ranks together."""
    step: int | None
    """Optimiser steps done when it ended, as far as known."""
    started: float
    """Unix time."""
    ended: float
    """Unix time."""
    action: Action
    """What follows; `stop` also where nothing has to."""
    advice: str
    """What the user can change; empty where there is nothing to do."""

    def write(self, attempt: AttemptDir) -> bool:
        """Publish it in the attempt's folder; False if the attempt has one already, which then stands."""
        return publish_json_once(attempt.outcome, plain(self))

    @classmethod
    def read(cls, attempt: AttemptDir) -> Outcome | None:
        """The attempt's outcome; None while it runs, or if nobody lived to write one."""
        if not attempt.outcome.is_file():
            return None
        document = json.loads(attempt.outcome.read_text(encoding="utf-8"))
        return decode(cls, {"started": document["ended"], **BEFORE_CLASSES, **document})


BEFORE_CLASSES = {"failure": None, "node": None, "rank": None, "action": Action.stop.value, "advice": ""}
"""What an outcome does not say whose run began before failures had classes; it can still be listed."""


def read_outcomes(run: RunDir, before: int | None = None) -> list[Outcome]:
    """Outcomes of the attempts that have one, in order; with `before`, of those with a lower number."""
    numbers = [number for number in run.attempt_numbers() if before is None or number < before]
    found = (Outcome.read(run.attempt(number)) for number in numbers)
    return [outcome for outcome in found if outcome is not None]
