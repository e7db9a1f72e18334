"""Whether a checkpoint on disk is what was written: every byte of it is read and hashed again. No torch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher.checkpoint.manifest import Manifest, fault, read_manifest
from launcher.digest import unseen

READERS = 4
"""Files read at a time: one stream seldom fills a parallel file system, and hashing leaves the interpreter free."""


def faults(folder: Path, report: Callable[[int], None] = unseen) -> list[str]:
    """What is wrong with the checkpoint in `folder`; empty if it is good.

    `report` is told the bytes that were read, from several threads.
    """
    manifest = read_manifest(folder)
    return ["its manifest cannot be read"] if manifest is None else shard_faults(folder, manifest, report)


def shard_faults(folder: Path, manifest: Manifest, report: Callable[[int], None] = unseen) -> list[str]:
    """The same against a manifest that need not lie there."""
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda shard: fault(folder, shard, content=True, report=report), manifest.shards)
        return [complaint for complaint in found if complaint is not None]
