"""How much a file system takes yet. Quotas show where the file system tells them (statvfs)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What is free for a user without privileges."""

    free_gb: float
    """GB."""
    free_files: int | None
    """Inodes; None where they are not counted."""


def room_at(folder: Path) -> Room | None:
    """Where `folder` is, or will be; None where the file system does not say."""
    existing = next((place for place in (folder, *folder.parents) if place.exists()), None)
    if existing is None:
        return None
    try:
        system = os.statvfs(existing)
    except OSError:
        return None
    counted = system.f_files > 0
    return Room(
        free_gb=system.f_bavail * system.f_frsize / 1e9,
        free_files=system.f_favail if counted else None,
    )
