"""What the untrained model thinks of every row, once, before the first step: no second model has to be held for it.

Owns the file of log-probabilities, in the run directory, and who writes which part of it. A run that is killed
meanwhile goes on where it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from launcher.data.feed.batches import Layout, eval_batches
from launcher.data.feed.samples import Samples
from launcher.data.tokens import AnyArray
from launcher.errors import Problem, UserError
from launcher.models.forward import row_logps
from launcher.publish import publish_json
from launcher.rundir import RunDir
from launcher.train.agree import from_rank0

CHUNK_BATCHES = 8
"""Batches of a rank between two writes, and between two questions whether any rank was told to stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Where the log-probabilities of one prepared set are: fp32, for each row of the store one number, or two where
    its prompt is also asked about with another row's answer."""

    values: Path
    """The file; its size is that of all rows from the beginning."""
    progress: Path
    """{samples}: how many are done, from the first."""
    width: int
    """Numbers per row."""

    @staticmethod
    def of(run: RunDir, samples: Samples) -> Reference:
        """That of these samples: named after their prepared folder, so that other rows never pass for them."""
        name = samples.store.folder.name
        return Reference(
            values=run.reference / f"{name}.f32",
            progress=run.reference / f"{name}.json",
            width=2 if samples.mismatched else 1,
        )

    def done(self) -> int:
        """Samples whose rows are written."""
        if not self.values.exists():
            return 0
        try:
            return int(json.loads(self.progress.read_text(encoding="utf-8"))["samples"])
        except FileNotFoundError:
            return 0

    def read(self) -> AnyArray:
        """Everything, memory-mapped: [rows, width]."""
        return np.memmap(self.values, dtype=np.float32, mode="r").reshape(-1, self.width)


def reference_all(
    engine: Any,
    samples: Samples,
    layout: Layout,
    place: Reference,
    *,
    trained: bool,
    device: torch.device,
    before_batch: Callable[[], None],
    stopped: Callable[[], bool],
) -> bool:
    """Give `samples` the untrained model's log-probabilities; collective. False where `stopped` said so meanwhile.

    `trained`: the engine holds a checkpoint, so that what is missing can no longer be had (UserError).
    """
    start = from_rank0(place.done)
    if start < len(samples) and trained:
        message = "the log-probabilities of the untrained model are gone, and the model has been trained since"
        raise UserError(Problem(where=str(place.values), message=message, remedy="put the file back, or start anew"))
    if start == 0:
        from_rank0(lambda: _allocate(place, len(samples.store)))
    per_chunk = CHUNK_BATCHES * layout.micro_batch_size * dist.get_world_size()
    engine.eval()
    try:
        with torch.no_grad():
            for number in range(math.ceil((len(samples) - start) / per_chunk)):
                first = start + number * per_chunk
                chosen = np.arange(first, min(first + per_chunk, len(samples)), dtype=np.int64)
                if stopped():
                    return False
                _one_chunk(engine, samples, layout, place, chosen, device, before_batch)
    finally:
        engine.train()
    values = place.read()
    samples.reference = values[:, 0]
    samples.mismatched_reference = values[:, 1] if samples.mismatched else None
    return True


def _one_chunk(
    engine: Any,
    samples: Samples,
    layout: Layout,
    place: Reference,
    chosen: AnyArray,
    device: torch.device,
    before_batch: Callable[[], None],
) -> None:
    rows, counts = samples.rows_of(chosen)
    begins = np.cumsum(counts) - counts
    values = torch.zeros(len(rows), place.width, dtype=torch.float32, device=device)
    size, rank = dist.get_world_size(), dist.get_rank()
    first, last = int(chosen[0]), int(chosen[-1]) + 1
    for batch in eval_batches(samples, layout, rank=rank, data_parallel_size=size, start=first, stop=last):
        before_batch()
        asked = [batch] if batch.mismatched is None else [batch, batch.mismatched]
        for column, rows_asked in enumerate(asked):
            logps, _ = row_logps(engine, rows_asked.to(device))
            if batch.samples:
                at = int(begins[batch.samples[0] - first])
                values[at : at + len(logps), column] = logps
    # Every row is one rank's; the others add nothing to it.
    dist.all_reduce(values)
    from_rank0(lambda: _write(place, rows, values.cpu().numpy(), last))


def _allocate(place: Reference, rows: int) -> None:
    place.values.parent.mkdir(mode=0o700, exist_ok=True)
    # What an earlier file held says nothing of this one.
    place.progress.unlink(missing_ok=True)
    with place.values.open("wb") as file:
        file.truncate(4 * place.width * rows)
    place.values.chmod(0o600)


def _write(place: Reference, rows: AnyArray, values: AnyArray, done: int) -> None:
    mapped = np.memmap(place.values, dtype=np.float32, mode="r+")
    mapped.reshape(-1, place.width)[rows] = values
    mapped.flush()
    publish_json(place.progress, {"samples": done})
