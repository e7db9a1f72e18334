"""Which data a step sees once a window of it was skipped: skipped.json, and the mapping that follows from it.

A pure function of the list, so that every later attempt, from whichever checkpoint, feeds the same samples.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.decode import decode
from launcher.plain import plain
from launcher.publish import publish_json
from launcher.rundir import RunDir


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """One window."""

    step: int
    """Optimiser steps done where the run went back to: from here on data lies `count` steps further."""
    count: int
    """Steps of data skipped."""
    reason: str
    """Why."""


def data_step(step: int, skips: Sequence[Skip]) -> int:
    """The step of the data stream that optimiser step `step` (from 0) takes."""
    return step + sum(skip.count for skip in skips if skip.step <= step)


def read_skips(run: RunDir) -> list[Skip]:
    """All windows so far, in order."""
    if not run.skipped.is_file():
        return []
    return [decode(Skip, item) for item in json.loads(run.skipped.read_text(encoding="utf-8"))]


def write_skips(run: RunDir, skips: Sequence[Skip]) -> None:
    """Publish the list."""
    publish_json(run.skipped, plain(list(skips)))
