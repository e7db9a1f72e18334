"""DeepSpeed's checkpoint engine, replaced: states are copied or written, hashed, and loaded as data only.

An error is kept, not raised: DeepSpeed's save is a sequence of collectives, and a rank that leaves it early leaves the
others waiting. Whoever began the save takes the error with the shards.
"""

from __future__ import annotations

import traceback
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from deepspeed.checkpoint.constants import SINGLE_PARTITION_OF_FP32_GROUPS, ZERO_STAGE
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine

from launcher.checkpoint.manifest import Shard
from launcher.checkpoint.safe_load import safe_types
from launcher.checkpoint.snapshot import HostBuffers, snapshot
from launcher.checkpoint.writer import write_file
from launcher.faultpoints import Point, reach


class HashingCheckpointEngine(CheckpointEngine):  # type: ignore[misc]
    """Copies and writes the files of one rank, one save at a time: `begin`, DeepSpeed's `save`s, `take`."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.name = "launcher"
        self._rank = rank
        self._step = 0
        self._copying = False
        self._buffers = HostBuffers()
        self._copies: list[tuple[Any, Path]] = []
        self._files: list[Path] = []
        self._shards: list[Shard] = []
        self._error: str | None = None

    def begin(self, step: int, *, copying: bool) -> None:
        """The next files are those after `step`; with `copying`, `save` only copies and `take` writes."""
        self._step, self._copying = step, copying
        self._copies, self._files, self._shards, self._error = [], [], [], None

    @contextmanager
    def keeping(self, where: str) -> Iterator[None]:
        """The file system's complaints end the save, not the process."""
        try:
            yield
        except OSError as error:
            self._error = self._error or f"{where}: {error}"

    def create(self, info: CheckpointCommitInfo) -> None:
        """Nothing to prepare."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder, or remember why not."""
        with self.keeping(path):
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=exist_ok)

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """The manifest commits, not DeepSpeed."""
        return True

    def save(self, state_dict: Any, path: str) -> None:
        """Copy one file's content, or write it; or remember why not."""
        if self._error is not None:
            return
        state = _readable(state_dict)
        if self._copying:
            try:
                self._copies.append((snapshot(state, self._buffers), Path(path)))
                return
            except (MemoryError, RuntimeError) as error:
                print(f"no host memory for a copy of {path} ({error}); it is written while training waits", flush=True)
        self._write(state, Path(path))

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one file; it can hold tensors and plain values, and runs no code."""
        with safe_types():
            return torch.load(path, map_location=map_location, weights_only=True)

    def take(self) -> tuple[list[Shard], str | None]:
        """Write what was copied; all shards since `begin`, or none and the error that ended them."""
        copies, self._copies = self._copies, []
        for state, path in copies:
            if self._error is None:
                self._write(state, path)
        if self._copying:
            # A save that was waited for wanted none, and the next copy will.
            self._buffers.give_back()
        shards, error = self._shards, self._error
        if error is not None:
            # Whoever tells of a full disk needs room for the word.
            for path in self._files:
                with suppress(OSError):
                    path.unlink()
            shards = []
        self._files, self._shards, self._error = [], [], None
        return shards, error

    def _write(self, state: Any, path: Path) -> None:
        self._files.append(path)
        try:
            self._shards.append(write_file(state, path, rank=self._rank, midway=self._midway))
        except OSError as error:
            self._error = f"{path}: {error}"
        except Exception as error:
            # Nobody waits for an exception in the thread that writes; the save has failed either way.
            traceback.print_exc()
            self._error = f"{path}: {type(error).__name__}: {error}"

    def _midway(self) -> None:
        reach(Point.save_writing, rank=self._rank, step=self._step)


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
