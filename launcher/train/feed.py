"""What one optimiser step eats: this rank's micro batches, and counts that every rank knows without asking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launcher.data.batches import MicroBatch, micro_batches
from launcher.data.order import rows_of_step
from launcher.data.tokens import TokenStore
from launcher.runplan import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class StepData:
    """The data of one optimiser step."""

    step: int
    """Optimiser step, from 0."""
    batches: list[MicroBatch]
    """This rank's share, one per accumulation step."""
    trained: int
    """Tokens that carry loss, over all ranks."""
    processed: int
    """Tokens that go through the model, over all ranks."""


def step_data(
    store: TokenStore, batch: Batch, *, seed: int, rank: int, pad_id: int, start: int, stop: int
) -> Iterator[StepData]:
    """Data of the steps from `start` up to `stop`; starts at any step as fast as at the first."""
    for step in range(start, stop):
        rows = rows_of_step(seed=seed, step=step, global_batch_size=batch.global_batch_size, rows=len(store))
        yield StepData(
            step=step,
            batches=micro_batches(
                store,
                rows=rows,
                rank=rank,
                data_parallel_size=batch.data_parallel_size,
                micro_batch_size=batch.micro_batch_size,
                pad_id=pad_id,
            ),
            trained=int(store.trained_counts(rows).sum()),
            processed=int(store.lengths(rows).sum()),
        )
