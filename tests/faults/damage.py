"""Ways in which a checkpoint on disk goes bad. Knows the manifest, and no run."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path

from launcher.checkpoint.manifest import MANIFEST, read_manifest
from tests.checkpoint.folders import vouch

MARKER = "hostile.marker"


class _Hostile:
    """Unpickling it creates a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (self._marker, "w")


def _shard(folder: Path, chance: random.Random) -> Path:
    manifest = read_manifest(folder)
    assert manifest is not None, f"{folder} is not a checkpoint"
    return folder / chance.choice([shard.name for shard in manifest.shards if shard.size > 64])


def truncate(folder: Path, chance: random.Random) -> str:
    """The end of a shard is gone."""
    path = _shard(folder, chance)
    size = chance.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.truncate(size)
    return f"{path.name} cut to {size} bytes"


def remove(folder: Path, chance: random.Random) -> str:
    """A shard is gone."""
    path = _shard(folder, chance)
    path.unlink()
    return f"{path.name} removed"


def flip(folder: Path, chance: random.Random) -> str:
    """One bit of a shard has turned over; its size and time are as they were."""
    path = _shard(folder, chance)
    place, bit = chance.randrange(path.stat().st_size), chance.randrange(8)
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ (1 << bit)]))
    return f"bit {bit} of byte {place} of {path.name} flipped"


def cut_manifest(folder: Path, chance: random.Random) -> str:
    """Half a manifest."""
    path = folder / MANIFEST
    text = path.read_text()
    size = chance.randrange(1, len(text) - 2)
    path.write_text(text[:size])
    return f"manifest cut to {size} characters"


def hostile(folder: Path, chance: random.Random) -> str:
    """A pickle that runs code stands in the place of a shard."""
    path = _shard(folder, chance)
    path.write_bytes(pickle.dumps(_Hostile(folder.parent.parent / MARKER)))
    return f"{path.name} replaced by a pickle that runs code"


def hostile_and_vouched_for(folder: Path, chance: random.Random) -> str:
    """The same, and the manifest says that this is how it should be."""
    path = _shard(folder, chance)
    path.write_bytes(pickle.dumps(_Hostile(folder.parent.parent / MARKER)))
    vouch(folder, path.name)
    return f"{path.name} replaced by a pickle that runs code, and vouched for in the manifest"
