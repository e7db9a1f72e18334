"""Checkpoints and half-done saves, made by hand: their files are a few bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from launcher.checkpoint.manifest import (
    DIGEST,
    MANIFEST,
    MANIFEST_VERSION,
    Manifest,
    Shard,
    fault,
    manifest_of,
    read_manifest,
    step_folder,
)
from launcher.digest import file_sha256
from launcher.rundir import RunDir


def make_run(root: Path, attempts: int = 1) -> RunDir:
    """A run directory with so many attempts begun."""
    run = RunDir(root)
    run.checkpoints.mkdir(parents=True)
    run.attempts.mkdir()
    for number in range(1, attempts + 1):
        run.attempt(number).root.mkdir()
    return run


def draft(step: int, *, attempt: int = 1, world_size: int = 1) -> Manifest:
    """A manifest without shards."""
    return Manifest(
        version=MANIFEST_VERSION,
        step=step,
        total_steps=99,
        tokens=step,
        attempt=attempt,
        world_size=world_size,
        zero_stage=3,
        dtype="bf16",
        data="d",
        shards=[],
        fingerprint={"config": "c"},
        versions={"torch": "t"},
    )


def write_shard(folder: Path, name: str, content: bytes, rank: int = 0) -> Shard:
    """A file, and what a manifest says of it."""
    (folder / name).write_bytes(content)
    return Shard(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest(), rank=rank)


def commit_step(checkpoints: Path, step: int, content: bytes = b"weights") -> Shard:
    """A checkpoint of one file."""
    folder = step_folder(checkpoints, step)
    folder.mkdir(parents=True)
    shard = write_shard(folder, "a.pt", content)
    manifest = draft(step)
    manifest.shards.append(shard)
    manifest.write(folder)
    return shard


def is_good(checkpoints: Path, step: int) -> bool:
    """Whether there is a checkpoint whose files are as its manifest says."""
    folder = step_folder(checkpoints, step)
    manifest = read_manifest(folder)
    return manifest is not None and not any(fault(folder, shard, content=True) for shard in manifest.shards)


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def vouch(folder: Path, name: str) -> None:
    """Make the manifest of a checkpoint say what its file `name` is now."""
    path = folder / name
    document = json.loads((folder / MANIFEST).read_text())
    document.pop(DIGEST)
    (entry,) = [shard for shard in document["shards"] if shard["name"] == name]
    entry |= {"size": path.stat().st_size, "sha256": file_sha256(path)}
    manifest_of(document).write(folder)
