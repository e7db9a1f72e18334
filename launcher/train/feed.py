"""What one optimiser step eats: this rank's micro batches, and counts that every rank knows without asking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.data.batches import MicroBatch, micro_batches
from launcher.data.order import checksum, rows_of_step
from launcher.data.tokens import TokenStore
from launcher.faultpoints import Point, reach
from launcher.runplan import Batch
from launcher.train.skips import Skip, data_step


@dataclass(frozen=True, kw_only=True, slots=True)
class StepData:
    """The data of one optimiser step."""

    step: int
    """Optimiser step, from 0."""
    batches: list[MicroBatch]
    """This rank's share, one per accumulation step."""
    fed: int
    """Checksum of the rows in this rank's share."""
    trained: int
    """Tokens that carry loss, over all ranks."""
    processed: int
    """Tokens that go through the model, over all ranks."""


def step_data(
    store: TokenStore,
    batch: Batch,
    *,
    seed: int,
    rank: int,
    pad_id: int,
    start: int,
    stop: int,
    skips: Sequence[Skip] = (),
) -> Iterator[StepData]:
    """Data of the steps from `start` up to `stop`; starts at any step as fast as at the first."""
    for step in range(start, stop):
        reach(Point.data, rank=rank, step=step)
        position = data_step(step, skips)
        rows = rows_of_step(seed=seed, step=position, global_batch_size=batch.global_batch_size, rows=len(store))
        batches = micro_batches(
            store,
            rows=rows,
            rank=rank,
            data_parallel_size=batch.data_parallel_size,
            micro_batch_size=batch.micro_batch_size,
            pad_id=pad_id,
        )
        yield StepData(
            step=step,
            batches=batches,
            fed=checksum(row for micro in batches for row in micro.rows),
            trained=int(store.trained_counts(rows).sum()),
            processed=int(store.lengths(rows).sum()),
        )
