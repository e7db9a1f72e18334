"""DeepSpeed's checkpoint engine, replaced: every file is hashed while it is written, synced, and loaded as data only.

An error while writing is kept, not raised: DeepSpeed's save is a sequence of collectives, and a rank that leaves it
early leaves the others waiting.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from enum import Enum
from pathlib import Path
from typing import IO, Any, cast

import torch
from deepspeed.checkpoint.constants import SINGLE_PARTITION_OF_FP32_GROUPS, ZERO_STAGE
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine

from launcher.checkpoint.manifest import Shard
from launcher.checkpoint.safe_load import safe_types


class HashingCheckpointEngine(CheckpointEngine):  # type: ignore[misc]
    """Writes shards for one rank; `take` hands over what was written since the last call."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.name = "launcher"
        self._rank = rank
        self._shards: list[Shard] = []
        self._error: str | None = None

    def create(self, info: CheckpointCommitInfo) -> None:
        """Nothing to prepare."""

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """The manifest commits, not DeepSpeed."""
        return True

    def save(self, state_dict: Any, path: str) -> None:
        """Write one file whole and synced, or remember why not."""
        if self._error is not None:
            return
        try:
            self._shards.append(_write(_readable(state_dict), Path(path), self._rank))
        except (OSError, RuntimeError) as error:
            # torch's zip writer turns a full disk into a RuntimeError.
            self._error = f"{path}: {error}"

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one file; it can hold tensors and plain values, and runs no code."""
        with safe_types():
            return torch.load(path, map_location=map_location, weights_only=True)

    def take(self) -> tuple[list[Shard], str | None]:
        """Shards written since the last call, and the error that ended them, if any."""
        shards, error = self._shards, self._error
        self._shards, self._error = [], None
        return shards, error


def _readable(state: Any) -> Any:
    """The state as plain data, with the stage named where DeepSpeed forgets to.

    An enum is pickled as a call of getattr by some Python 3.11 releases, which no safe load lets through. And bf16 with
    fp32 gradient sums at stage 1 takes BF16_Optimizer, whose state is laid out as stage 1's without the key that
    zero_to_fp32, and so our export, asks for.
    """
    if not isinstance(state, dict):
        return state
    # The module's own mapping carries attributes that torch looks for, and no enums.
    plain = {key: value if key == "module" else _without_enums(value) for key, value in state.items()}
    optimiser = plain.get("optimizer_state_dict")
    if isinstance(optimiser, dict) and SINGLE_PARTITION_OF_FP32_GROUPS in optimiser:
        optimiser.setdefault(ZERO_STAGE, 1)
    return plain


def _without_enums(value: Any) -> Any:
    """Enums as their values, in mappings at any depth; tensors are shared, not copied."""
    if isinstance(value, Enum):
        return value.value
    if type(value) in (dict, OrderedDict):
        return type(value)((key, _without_enums(item)) for key, item in value.items())
    return value


class _HashingFile:
    """A file that hashes what passes through it. Sequential: torch's zip writer only appends."""

    def __init__(self, path: Path) -> None:
        self._file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")  # noqa: SIM115 - held
        self.hasher = hashlib.sha256()
        self.size = 0

    def write(self, data: Any) -> int:
        self.hasher.update(data)
        written = self._file.write(data)
        self.size += written
        return written

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _write(state: Any, path: Path, rank: int) -> Shard:
    file = _HashingFile(path)
    try:
        torch.save(state, cast("IO[bytes]", file))
    finally:
        file.close()
    # Relative to the checkpoint's folder, which DeepSpeed names after the tag.
    return Shard(name=path.name, size=file.size, sha256=file.hasher.hexdigest(), rank=rank)
