"""What becomes of a save once it is copied: a rank's part, and rank 0's commit. Runs in a thread; no torch.

Holds no collectives, for training holds its own at the same time. A save that fails leaves nothing behind but an event.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.checkpoint.commit import StaleError, commit, fence, point_to, remove_folder
from launcher.checkpoint.manifest import Manifest, Shard
from launcher.checkpoint.retain import HeldOut, Policy, prune
from launcher.checkpoint.unfinished import NotToldError, RankList, read_lists, tell, wait_for_lists, with_shards
from launcher.faultpoints import Point, reach
from launcher.rundir import RunDir
from launcher.runs.events import Event, record

LISTS_TIMEOUT_S = 20 * 60
"""How long rank 0 waits for the other ranks' words; less than a collective may take."""
NICENESS = 10
"""Of the thread that writes: where cores are short, training comes first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why there is no checkpoint."""

    reason: str
    """What went wrong."""
    remedy: str
    """What to do."""


@dataclass(kw_only=True, slots=True, eq=False)
class Save:
    """One save under way, on this rank."""

    folder: Path
    """Where it is written before it is a checkpoint."""
    draft: Manifest
    """The manifest, without shards."""
    started: float
    """By the monotonic clock."""
    stalled_s: float | None
    """How long training waited; None if it waits to the end."""
    told: threading.Event = field(default_factory=threading.Event)
    """This rank's part is over."""
    untold: str | None = None
    """Why this rank could not even tell that it failed."""
    hopeless: threading.Event = field(default_factory=threading.Event)
    """Some rank's word will not come."""
    failure: Failure | None = None
    """On rank 0: why there is no checkpoint."""


class Completion:
    """Brings one rank's saves to their end."""

    def __init__(
        self, run: RunDir, policy: Policy, *, rank: int, take: Callable[[], tuple[list[Shard], str | None]]
    ) -> None:
        """`take` writes this rank's files and returns them, or why it could not."""
        self._run = run
        self._policy = policy
        self._rank = rank
        self._take = take
        self._held_out = HeldOut(run.metrics, policy.best_by)
        self._unrecorded: list[tuple[Event, int, dict[str, Any]]] = []

    def start(self, save: Save) -> threading.Thread:
        """Complete `save` in a thread of its own; one at a time."""
        thread = threading.Thread(target=self._in_background, args=(save,), name="checkpoint", daemon=True)
        thread.start()
        return thread

    def _in_background(self, save: Save) -> None:
        # Linux knows niceness by thread. Nobody trains while a save is waited for.
        if save.stalled_s is not None:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        self.complete(save)

    def complete(self, save: Save) -> None:
        """This rank's part, and on rank 0 the commit. Raises nothing: `save` holds what came of it."""
        try:
            told = self._write(save)
        except Exception as error:
            traceback.print_exc()
            save.untold = repr(error)
            told = RankList(rank=self._rank, shards=[], error=repr(error))
        save.told.set()
        if self._rank == 0:
            try:
                manifest = self._commit(save, told)
            except Exception as error:
                self._fail(save, error)
            else:
                self._settle(save, manifest)

    def _write(self, save: Save) -> RankList:
        shards, error = self._take()
        error = error or _complaint(lambda: self._reach(Point.save_written, save))
        told = RankList(rank=self._rank, shards=shards, error=error)
        save.untold = _complaint(lambda: tell(save.folder, told))
        listed = _complaint(lambda: self._reach(Point.save_listed, save))
        return RankList(rank=self._rank, shards=shards, error=error or save.untold or listed)

    def _commit(self, save: Save, own: RankList) -> Manifest:
        """The checkpoint's manifest, once it is one; by exception, why it is none."""
        world_size = save.draft.world_size
        # Also where this rank failed: the others are still writing into the folder.
        expected = world_size - (save.untold is not None)
        try:
            wait_for_lists(save.folder, expected, timeout_s=LISTS_TIMEOUT_S, hopeless=save.hopeless)
        except NotToldError:
            if own.error is None:
                raise
        lists = [own, *read_lists(save.folder, world_size)[1:]] if own.error is None else [own]
        errors = [f"rank {told.rank}: {told.error}" for told in lists if told.error is not None]
        if errors:
            raise NotToldError("; ".join(errors[:3]))
        manifest = with_shards(save.draft, lists)
        commit(
            self._run,
            save.folder,
            manifest,
            attempt=manifest.attempt,
            at=lambda point: self._reach(point, save),
        )
        return manifest

    def _fail(self, save: Save, error: Exception) -> None:
        step, checkpoints = save.draft.step, self._run.checkpoints
        remedy = f"free space or inodes under {checkpoints}"
        if isinstance(error, StaleError):
            remedy = "nothing; these are leftovers of a node that the cluster had given up"
        elif not isinstance(error, OSError | NotToldError):
            traceback.print_exception(error)
        try:
            # A later attempt may be about to recover the folder: then it is that attempt's.
            fence(self._run, save.draft.attempt)
            remove_folder(save.folder)
        except (StaleError, OSError):
            pass
        reason = str(error) if isinstance(error, OSError | NotToldError | StaleError) else repr(error)
        print(f"checkpoint at step {step} could not be written: {reason}\n    do: {remedy}", flush=True)
        self._record(Event.save_failed, save, step=step, reason=reason)
        save.failure = Failure(reason=reason, remedy=remedy)

    def _settle(self, save: Save, manifest: Manifest) -> None:
        """What follows a commit. The checkpoint is there, whatever fails from here on."""
        step, elapsed = manifest.step, time.monotonic() - save.started
        self._spare(save, Point.save_pointer, lambda: point_to(self._run.checkpoints, step))
        self._record(
            Event.checkpoint,
            save,
            step=step,
            seconds=round(elapsed, 3),
            stalled_s=round(elapsed if save.stalled_s is None else save.stalled_s, 3),
            size=sum(shard.size for shard in manifest.shards),
        )
        self._spare(save, Point.save_prune, self._prune)
        self._spare(save, Point.save_done, lambda: None)

    def _prune(self) -> None:
        costs = {} if self._policy.best is None else self._held_out.read()
        prune(self._run.checkpoints, self._policy, costs)

    def _spare(self, save: Save, point: Point, work: Callable[[], object]) -> None:
        def reach_and_work() -> None:
            self._reach(point, save)
            work()

        if (complaint := _complaint(reach_and_work)) is not None:
            print(f"after the checkpoint at step {save.draft.step}: {complaint}", flush=True)

    def _record(self, event: Event, save: Save, **fields: Any) -> None:
        """Record an event, now or with the next one: a disk that was full for the files was full for this line."""
        self._unrecorded.append((event, save.draft.attempt, fields))
        while self._unrecorded:
            waiting, attempt, known = self._unrecorded[0]
            if not record(self._run, waiting, attempt, **known):
                return
            del self._unrecorded[0]

    def _reach(self, point: Point, save: Save) -> None:
        reach(point, rank=self._rank, step=save.draft.step)


def _complaint(work: Callable[[], object]) -> str | None:
    """Do `work`; what the file system has against it."""
    try:
        work()
    except OSError as error:
        return str(error)
    return None
