"""The folder that a save writes into before it is a checkpoint, and how ranks agree there that it is whole. No torch.

`.step-00000050.attempt-0002/` belongs to one attempt. `position.json` is the manifest to be, without shards; `written/`
holds one file a rank, put there once its shards are synced: what it wrote, or why it could not. The ranks agree by
these files because the threads that write are no place for collectives: training holds those at the same time.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.checkpoint.manifest import Manifest, Shard, manifest_of, step_folder
from launcher.decode import decode
from launcher.plain import plain
from launcher.publish import publish_json

POSITION = "position.json"
LISTS = "written"
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.01, 2.0
"""Between two looks at what the ranks have told; it doubles, so that a slow save costs the file system little."""
NAME = re.compile(r"\.(step-\d{8,})\.attempt-(\d{4,})")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankList:
    """What one rank has to say of its part."""

    rank: int
    """Who."""
    shards: list[Shard]
    """Files written and synced."""
    error: str | None
    """Why not all of them were."""


class NotToldError(Exception):
    """A rank's word is missing, and will not come."""


def unfinished_folder(checkpoints: Path, step: int, attempt: int) -> Path:
    """Where `attempt` writes the checkpoint after `step`."""
    return checkpoints / f".{step_folder(checkpoints, step).name}.attempt-{attempt:04d}"


def unfinished(checkpoints: Path) -> Iterator[tuple[Path, int, int]]:
    """All such folders, each with its step and attempt; the latest attempt last."""
    found = [(folder, NAME.fullmatch(folder.name)) for folder in checkpoints.glob(".step-*.attempt-*")]
    numbered = [(folder, int(match[1].removeprefix("step-")), int(match[2])) for folder, match in found if match]
    yield from sorted(numbered, key=lambda entry: entry[2])


def begin(folder: Path, draft: Manifest) -> None:
    """Make the folder, empty but for where the run stands. `draft` is the manifest without shards."""
    if folder.exists():
        shutil.rmtree(folder)
    (folder / LISTS).mkdir(mode=0o700, parents=True)
    publish_json(folder / POSITION, plain(draft))


def tell(folder: Path, told: RankList) -> None:
    """Leave a rank's word. From here on its files are whole, synced, and not touched by it any more."""
    lists = folder / LISTS
    lists.mkdir(mode=0o700, parents=True, exist_ok=True)
    publish_json(lists / f"rank-{told.rank:05d}.json", plain(told))


def wait_for_lists(folder: Path, count: int, *, timeout_s: float, hopeless: threading.Event) -> None:
    """Until so many ranks have left their word; NotToldError after `timeout_s`, or once it is `hopeless`."""
    deadline, pause_s = time.monotonic() + timeout_s, SHORTEST_WAIT_S
    while (missing := count - _count(folder)) > 0:
        if hopeless.is_set() or time.monotonic() > deadline:
            raise NotToldError(f"{missing} of {count} ranks did not tell what they wrote")
        hopeless.wait(pause_s)
        pause_s = min(2 * pause_s, LONGEST_WAIT_S)


def read_lists(folder: Path, world_size: int) -> list[RankList]:
    """Every rank's word, in order of rank; NotToldError if one is missing or cannot be read."""
    try:
        texts = [(folder / LISTS / f"rank-{rank:05d}.json").read_text(encoding="utf-8") for rank in range(world_size)]
        return [decode(RankList, json.loads(text)) for text in texts]
    except (OSError, ValueError, AssertionError) as error:
        raise NotToldError(f"a rank's list of files cannot be read ({error})") from error


def manifest_from_lists(folder: Path) -> Manifest:
    """The manifest of a folder whose ranks have all told of success; NotToldError otherwise."""
    try:
        draft = manifest_of(json.loads((folder / POSITION).read_text(encoding="utf-8")))
    except (OSError, ValueError, AssertionError) as error:
        raise NotToldError(f"{POSITION} cannot be read ({error})") from error
    lists = read_lists(folder, draft.world_size)
    failed = [f"rank {told.rank}: {told.error}" for told in lists if told.error is not None]
    if failed:
        raise NotToldError("; ".join(failed))
    return with_shards(draft, lists)


def with_shards(draft: Manifest, lists: list[RankList]) -> Manifest:
    """The whole manifest."""
    return replace(draft, shards=[shard for told in lists for shard in told.shards])


def forget_lists(folder: Path) -> None:
    """Remove what the manifest has made superfluous."""
    shutil.rmtree(folder / LISTS, ignore_errors=True)
    (folder / POSITION).unlink(missing_ok=True)


def _count(folder: Path) -> int:
    try:
        return sum(1 for _ in (folder / LISTS).glob("rank-*.json"))
    except OSError:
        return 0
