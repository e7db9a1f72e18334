"""What a look at a cluster found: a line that a person reads, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How bad it is."""

    ok = "ok"
    warning = "warning"
    fault = "fault"
    """Runs will fail, or be refused."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing."""

    level: Level
    """How bad it is."""
    what: str
    """What was found."""
    remedy: str = ""
    """What to do; empty where there is nothing."""
