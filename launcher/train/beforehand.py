"""A teacher that is asked once, before anything else is in memory: what it says is stored, and then it is let go of.

Owns who asks about which part of the rows, and that all ranks go through a partitioned teacher equally often. A run
that is stopped meanwhile goes on where it was, on any number of ranks: parts that are there are not asked about again.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from launcher.data.feed.batches import Layout, batches_of
from launcher.data.feed.largest import PART_SAMPLES, LargestStore
from launcher.data.feed.samples import Samples
from launcher.data.tokens import AnyArray
from launcher.errors import Problem, StorageError
from launcher.models.forward import trained_logits
from launcher.models.largest import largest
from launcher.node.ranks import Ranks
from launcher.node.stop import StopFlag
from launcher.node.watchdog import Watchdog
from launcher.objectives.protocol import Teacher
from launcher.objectives.registry import objective_of
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.train.agree import from_rank0
from launcher.train.feed import layout_of
from launcher.train.frozen import let_go
from launcher.train.parts import Ear
from launcher.train.teacher import held_all

STOP_BATCHES = 8
"""Batches between two questions whether any rank was told to stop."""


def ask_teacher_all(
    plan: RunPlan,
    run: RunDir,
    ranks: Ranks,
    stop: StopFlag,
    watchdog: Watchdog,
    device: torch.device,
    sets: Mapping[str, Samples],
) -> int | None:
    """Give each set's samples what the teacher thinks of them, if the objective has it asked once; collective.

    The signal, if any rank must stop before all is there. No engine may be there yet: its memory is the teacher's now.
    """
    teacher = objective_of(plan.config).needs.teacher
    if teacher is None or teacher.top_k is None:
        return None
    stores = {
        name: LargestStore(_folder(plan, run, samples, teacher), samples, teacher.top_k)
        for name, samples in sets.items()
    }
    missing = {name: from_rank0(store.missing) for name, store in stores.items()}
    layout, ear = layout_of(plan.config, plan.batch), Ear(stop, device)
    if any(missing.values()):
        held = held_all(plan, device)
        for name, parts in missing.items():
            ask = Asking(held, sets[name], stores[name], layout, teacher, device, watchdog.step, ear.stopped)
            whole = ask.ask_all(parts)
            if ranks.rank == 0 and ask.done:
                record(run, Event.compared, ranks.attempt, set=name, samples=_samples(stores[name], parts, ask.done))
            if not whole:
                return ear.signal
        let_go(held)
        del held, ask
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        watchdog.start()
    for name, samples in sets.items():
        samples.largest = stores[name].read
    return None


def _samples(store: LargestStore, missing: list[int], done: int) -> int:
    """Samples that are asked about, all in all, when `done` of the missing parts are there."""
    left = set(missing[done:])
    return sum(len(store.samples_of(part)) for part in range(store.parts) if part not in left)


def _folder(plan: RunPlan, run: RunDir, samples: Samples, teacher: Teacher) -> Path:
    """Named after all that decides what is in it: a resumed run may have been given another teacher."""
    said = [plan.fingerprint.model, teacher.path, teacher.revision, teacher.top_k, teacher.temperature, samples.packed]
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    return run.reference / f"{samples.store.folder.name}-{digest[:12]}"


class Asking:
    """One set, and the teacher."""

    def __init__(
        self,
        held: Any,
        samples: Samples,
        store: LargestStore,
        layout: Layout,
        teacher: Teacher,
        device: torch.device,
        before_batch: Callable[[], None],
        stopped: Callable[[], bool],
    ) -> None:
        assert teacher.top_k is not None
        self._held, self._samples, self._store, self._layout = held, samples, store, layout
        self._k, self._temperature, self._device = teacher.top_k, teacher.temperature, device
        self._before_batch, self._stopped = before_batch, stopped
        self._halted = False
        self.done = 0
        """Parts that have been asked about."""

    def ask_all(self, missing: list[int]) -> bool:
        """Ask about these parts, a round of them at a time, one on each rank; collective. False where `stopped` (it is
        collective, too) said so. StorageError on every rank where one could not write.
        """
        size, rank = dist.get_world_size(), dist.get_rank()
        for low in range(0, len(missing), size):
            failures: list[str | None] = [None] * size
            mine = missing[low + rank] if low + rank < len(missing) else None
            dist.all_gather_object(failures, self._ask_one(mine))
            told = next(filter(None, failures), None)
            if told is not None:
                remedy = "free space, then `launcher resume`"
                raise StorageError(Problem(where="run directory", message=told, remedy=remedy))
            if self._halted:
                return False
            self.done = min(len(missing), low + size)
        return True

    def _ask_one(self, part: int | None) -> str | None:
        """Write a part, if there is one for this rank; what storage said where it could not."""
        records, failure = self._records(part), None
        try:
            if part is not None:
                with self._store.writing(part) as write:
                    for found in records:
                        write(found)
        except OSError as error:
            failure = str(error)
        # Passes are collective: what is no use here is made for the others.
        for _ in records:
            pass
        return failure

    def _records(self, part: int | None) -> Iterator[AnyArray]:
        """What the teacher thinks of a part's tokens, batch after batch, and as many batches where there is none."""
        numbers = range(0) if part is None else self._store.samples_of(part)
        count = math.ceil(PART_SAMPLES / self._layout.micro_batch_size)
        for number, batch in enumerate(batches_of(self._samples, self._layout, numbers, count=count)):
            if number % STOP_BATCHES == 0 and self._stopped():
                self._halted = True
                return
            self._before_batch()
            with torch.no_grad():
                logits, _, _ = trained_logits(self._held, batch.to(self._device))
                # In place: nothing else of this size is there.
                logps, ids = largest(logits.div_(self._temperature), self._k)
            found = np.empty(len(ids), dtype=self._store.type)
            found["logps"], found["ids"] = logps.cpu().numpy(), ids.cpu().numpy()
            yield found
