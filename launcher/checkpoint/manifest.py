"""A checkpoint's manifest: the file that makes a folder of shards a checkpoint. No torch.

A folder without a manifest is not a checkpoint; the manifest is written last, after every shard is synced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.decode import decode
from launcher.digest import file_sha256, unseen
from launcher.plain import plain
from launcher.publish import publish_json

MANIFEST = "manifest.json"
SUPERSEDED = f"{MANIFEST}.superseded"
"""What it is called once `resume --step` has gone back behind its checkpoint."""
MANIFEST_VERSION = 2
DIGEST = "sha256"
"""Key of the manifest's own hash: a flipped digit of the step would be believed otherwise."""

BASE = "base"
"""Key in `fingerprint`: the mark of the weight files that hold what a checkpoint does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One file of a checkpoint."""

    name: str
    """Relative to the checkpoint's folder."""
    size: int
    """Bytes."""
    sha256: str
    """Of the content, taken while it was written."""
    rank: int
    """Rank that wrote it; in a universal copy the file's number, by which ranks share the check."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a checkpoint holds."""

    version: int
    """Format of this document."""
    step: int
    """Optimiser steps done; with the seed it fixes data position, schedule and random numbers."""
    total_steps: int
    """Steps of the whole run."""
    tokens: int
    """Trained tokens so far."""
    attempt: int
    """Attempt that wrote it."""
    world_size: int
    """Ranks that wrote it."""
    zero_stage: int
    """ZeRO stage."""
    dtype: str
    """Compute precision."""
    data: str
    """Hash of the tokenised training data."""
    shards: list[Shard]
    """Every file but this one."""
    fingerprint: dict[str, str] = field(default_factory=dict)
    """The plan's fingerprint: short hashes by name."""
    versions: dict[str, str] = field(default_factory=dict)
    """Software that wrote it, by package."""
    lineage: dict[str, str] = field(default_factory=dict)
    """The base model, and the run, step and checkpoint whose export that is."""

    def write(self, folder: Path) -> None:
        """Publish the manifest: from here on the checkpoint exists."""
        document = plain(self)
        publish_json(folder / MANIFEST, {**document, DIGEST: _digest(document)})


def step_folder(checkpoints: Path, step: int) -> Path:
    """Folder of the checkpoint after `step` optimiser steps."""
    return checkpoints / f"step-{step:08d}"


def manifest_of(document: dict[str, Any]) -> Manifest:
    """A manifest from its JSON form; AssertionError if it is not one."""
    # Manifests of before there was lineage have none, and are good for all that.
    return decode(Manifest, {"lineage": {}, **document})


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a checkpoint; None if the folder is not one, if it was changed, or is of another format."""
    try:
        document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        digest = document.pop(DIGEST, None)
        current = document.get("version") == MANIFEST_VERSION and digest == _digest(document)
        return manifest_of(document) if current else None
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, AttributeError, AssertionError):
        return None


def committed_steps(checkpoints: Path) -> list[int]:
    """Steps of all committed checkpoints, ascending. Looks at names only."""
    if not checkpoints.is_dir():
        return []
    folders = [folder for folder in checkpoints.glob("step-*") if (folder / MANIFEST).is_file()]
    return sorted(int(folder.name.removeprefix("step-")) for folder in folders)


def fault(folder: Path, shard: Shard, *, content: bool, report: Callable[[int], None] = unseen) -> str | None:
    """What is wrong with a shard on disk; None when it is as the manifest says.

    `content` reads it all, and `report` is told the bytes that were read.
    """
    path = folder / shard.name
    try:
        size = path.stat().st_size
        if size != shard.size:
            return f"{shard.name} has {size} bytes instead of {shard.size}"
        if content and file_sha256(path, report) != shard.sha256:
            return f"the content of {shard.name} has changed since it was written"
    except OSError as error:
        return f"{shard.name} cannot be read ({error.strerror})"
    return None
