"""What lies in a run's folder of checkpoints: committed ones, and folders that only look like it. No torch.

Owns the telling apart. Whether the content is still what was written is `verify`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from launcher.checkpoint.copies import PREFIX
from launcher.checkpoint.manifest import MANIFEST, SUPERSEDED, Manifest, read_manifest


class Standing(Enum):
    """What a folder is worth."""

    committed = "committed"
    """A checkpoint."""
    unreadable = "unreadable"
    """It has a manifest, which is damaged or of another format."""
    superseded = "superseded"
    """`resume --step` went back behind it; its shards are still there."""
    incomplete = "incomplete"
    """A save that did not get to its manifest, or has not yet."""
    universal = "universal"
    """A copy of a checkpoint in a form that any number of ranks can load."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One folder."""

    name: str
    """In the folder of checkpoints."""
    step: int
    """Optimiser steps done."""
    standing: Standing
    """What it is worth."""
    written: float
    """Unix time of the commit, or of the folder's last change."""
    size: int
    """Bytes on disk."""
    manifest: Manifest | None
    """What it says of itself, if it is committed."""


PREFIXES = ("step-", PREFIX)


def entries(checkpoints: Path) -> list[Entry]:
    """Every folder, ascending by step; the copies of a checkpoint after it."""
    if not checkpoints.is_dir():
        return []
    folders = [folder for prefix in PREFIXES for folder in checkpoints.glob(f"{prefix}*") if _step(folder) is not None]
    found = [entry for folder in folders if (entry := _entry(folder)) is not None]
    return sorted(found, key=lambda entry: (entry.step, entry.name))


def _step(folder: Path) -> int | None:
    _, _, number = folder.name.partition("-")
    return int(number) if number.isdigit() and folder.is_dir() else None


def _entry(folder: Path) -> Entry | None:
    """The folder's entry; None if it went while it was looked at: a run that is active prunes."""
    manifest = read_manifest(folder)
    standing = _standing(folder, manifest)
    sealed = folder / (SUPERSEDED if standing is Standing.superseded else MANIFEST)
    try:
        return Entry(
            name=folder.name,
            step=int(folder.name.partition("-")[2]),
            standing=standing,
            written=(sealed if sealed.is_file() else folder).stat().st_mtime,
            size=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
            manifest=manifest,
        )
    except FileNotFoundError:
        return None


def _standing(folder: Path, manifest: Manifest | None) -> Standing:
    if folder.name.startswith(PREFIX):
        return Standing.universal
    if manifest is not None:
        return Standing.committed
    if (folder / MANIFEST).is_file():
        return Standing.unreadable
    return Standing.superseded if (folder / SUPERSEDED).is_file() else Standing.incomplete
