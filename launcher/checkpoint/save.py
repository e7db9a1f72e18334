"""Saving while training goes on: all ranks copy their states, training goes on, and threads do the rest.

Owns what is collective in it. What the threads do is the business of `completion`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch.distributed as dist

from launcher.checkpoint.completion import Completion, Failure, Save
from launcher.checkpoint.engine import HashingCheckpointEngine
from launcher.checkpoint.manifest import Manifest
from launcher.checkpoint.retain import Policy
from launcher.checkpoint.unfinished import begin, unfinished_folder
from launcher.errors import Problem, StorageError
from launcher.faultpoints import Point, reach
from launcher.models.heap import give_back
from launcher.rundir import RunDir

NOTEWORTHY_WAIT_S = 1.0
"""Training that waits longer than this for the save before is told of."""


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

    def __init__(self, engine: Any, run: RunDir, *, draft: Manifest, policy: Policy, asynchronous: bool) -> None:
        """`draft` says what every manifest of this attempt says; from here on DeepSpeed reads and writes through us."""
        self._engine = engine
        self._rank = dist.get_rank()
        self._writer = HashingCheckpointEngine(self._rank)
        engine.checkpoint_engine = self._writer
        # Copied by rank 0 in the midst of DeepSpeed's collectives, where a full disk must not end it.
        engine._copy_recovery_script = _kept(self._writer, engine._copy_recovery_script)
        self._checkpoints = run.checkpoints
        self._draft = draft
        self._asynchronous = asynchronous
        self._completion = Completion(run, policy, rank=self._rank, take=self._writer.take)
        self._under_way: tuple[Save, threading.Thread] | None = None

    def save_all(self, position: Position, *, wait: bool) -> None:
        """Begin a checkpoint; collective. With `wait` it is committed on return, or StorageError on every rank.

        Otherwise training goes on once the state is copied; a failure is recorded, and the next save tries again.
        """
        started = time.monotonic()
        self._finish_before(position.step)
        wait = wait or not self._asynchronous
        draft = replace(self._draft, step=position.step, total_steps=position.total_steps, tokens=position.tokens)
        folder = unfinished_folder(self._checkpoints, draft.step, draft.attempt)
        # Gradients of the last step, which would lie beside the copy.
        give_back()
        self._writer.begin(draft.step, copying=not wait)
        with self._writer.keeping(str(folder)):
            reach(Point.save_begin, rank=self._rank, step=draft.step)
            if self._rank == 0:
                begin(folder, draft)
        # DeepSpeed holds a barrier before any rank's first file.
        self._engine.save_checkpoint(str(self._checkpoints), tag=folder.name, save_latest=False)
        with self._writer.keeping(str(folder)):
            reach(Point.save_copied, rank=self._rank, step=draft.step)
        stalled_s = None if wait else time.monotonic() - started
        save = Save(folder=folder, draft=draft, started=started, stalled_s=stalled_s)
        self._under_way = save, self._completion.start(save)
        if wait and (failure := self._finish_all()) is not None:
            raise _storage_error(draft.step, failure)

    def finish_all(self) -> str | None:
        """Wait until the save under way is committed or has failed; collective. Why it failed, on every rank."""
        failure = self._finish_all()
        return None if failure is None else failure.reason

    def close(self, timeout_s: float) -> None:
        """Give this rank's part of the save under way, and on rank 0 the commit, so long to be over."""
        if self._under_way is not None:
            self._under_way[1].join(timeout_s)

    def _finish_before(self, step: int) -> None:
        started = time.monotonic()
        self._finish_all()
        waited_s = time.monotonic() - started
        if waited_s > NOTEWORTHY_WAIT_S and self._rank == 0:
            print(
                f"the save at step {step} waited {waited_s:.1f} s for the one before; "
                "with a larger checkpoint.every_steps training would not",
                flush=True,
            )

    def _finish_all(self) -> Failure | None:
        if self._under_way is None:
            return None
        (save, thread), self._under_way = self._under_way, None
        save.told.wait()
        untold: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(untold, save.untold)
        if any(untold):
            save.hopeless.set()
        thread.join()
        answer: list[Any] = [save.failure]
        dist.broadcast_object_list(answer, src=0)
        failure: Failure | None = answer[0]
        return failure


def _kept(writer: HashingCheckpointEngine, work: Callable[[str], None]) -> Callable[[str], None]:
    def guarded(path: str) -> None:
        with writer.keeping(path):
            work(path)

    return guarded


def _storage_error(step: int, failure: Failure) -> StorageError:
    return StorageError(
        Problem(
            where=f"checkpoint at step {step}",
            message=f"it could not be written; {failure.reason}",
            remedy=f"{failure.remedy}, then `launcher resume`; earlier checkpoints are intact",
        )
    )
