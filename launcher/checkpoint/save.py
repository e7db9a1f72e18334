"""Committing a checkpoint: every rank writes its shards, all agree, rank 0 writes the manifest last."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist

from launcher.checkpoint.engine import HashingCheckpointEngine
from launcher.checkpoint.manifest import (
    MANIFEST,
    MANIFEST_VERSION,
    Manifest,
    Shard,
    committed_steps,
    step_folder,
)
from launcher.errors import Problem, UserError
from launcher.publish import publish_text, sync_dir
from launcher.rundir import RunDir
from launcher.runs.events import Event, record


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where the run stands."""

    step: int
    """Optimiser steps done."""
    total_steps: int
    """Steps of the whole run."""
    tokens: int
    """Trained tokens so far."""


class Saver:
    """Writes the checkpoints of one run."""

    def __init__(
        self, engine: Any, run: RunDir, *, attempt: int, stage: int, dtype: str, data: str, keep: int | None
    ) -> None:
        self._engine = engine
        self._writer = HashingCheckpointEngine(dist.get_rank())
        engine.checkpoint_engine = self._writer
        self._run = run
        self._checkpoints = run.checkpoints
        self._attempt = attempt
        self._facts: dict[str, Any] = {"attempt": attempt, "zero_stage": stage, "dtype": dtype, "data": data}
        self._keep = keep

    def save_all(self, position: Position, *, wait: bool) -> None:
        """Commit a checkpoint; collective. UserError on every rank, and no checkpoint, if any rank could not write."""
        folder = step_folder(self._checkpoints, position.step)
        # What lies there is either a save that was cut off, or one of a timeline that `resume --step` left behind.
        _on_rank0(position.step, lambda: shutil.rmtree(folder) if folder.exists() else None)
        self._engine.save_checkpoint(str(self._checkpoints), tag=folder.name, save_latest=False)
        written: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(written, self._writer.take())
        errors = [f"rank {rank}: {error}" for rank, (_, error) in enumerate(written) if error is not None]
        if errors:
            raise _failed(position.step, errors)
        shards = [shard for shards, _ in written for shard in shards]
        _on_rank0(position.step, lambda: self._commit(folder, position, shards))

    def finish_all(self) -> str | None:
        return None

    def close(self, timeout_s: float) -> None:
        return None

    def _commit(self, folder: Path, position: Position, shards: list[Shard]) -> None:
        sync_dir(folder)
        Manifest(
            version=MANIFEST_VERSION,
            step=position.step,
            total_steps=position.total_steps,
            tokens=position.tokens,
            world_size=dist.get_world_size(),
            shards=shards,
            **self._facts,
        ).write(folder)
        # What DeepSpeed's own tools look for; nothing of ours reads it.
        publish_text(self._checkpoints / "latest", folder.name)
        if self._keep is not None:
            prune(self._checkpoints, self._keep)
        record(self._run, Event.checkpoint, self._attempt, step=position.step)


def _on_rank0(step: int, work: Callable[[], None]) -> None:
    """Do `work` on rank 0 while the others wait; collective. Its OSError is a UserError on every rank."""
    error: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            work()
        except OSError as raised:
            error[0] = str(raised)
    dist.broadcast_object_list(error, src=0)
    if error[0] is not None:
        raise _failed(step, [f"rank 0: {error[0]}"])


def prune(checkpoints: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints. The manifest goes first: half a checkpoint is none."""
    for step in committed_steps(checkpoints)[:-keep]:
        folder = step_folder(checkpoints, step)
        (folder / MANIFEST).unlink()
        shutil.rmtree(folder)


def _failed(step: int, errors: list[str]) -> UserError:
    return UserError(
        Problem(
            where=f"checkpoint at step {step}",
            message="it could not be written; " + "; ".join(errors[:3]),
            remedy="free space or inodes on that file system, then `launcher resume`; earlier checkpoints are intact",
        )
    )
