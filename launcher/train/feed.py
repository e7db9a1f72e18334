"""What one optimiser step eats: this rank's micro batches, and counts that every rank knows without asking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.config.schema import Attention, Config
from launcher.data.feed.batches import Layout, MicroBatch, micro_batches
from launcher.data.feed.mixture import Mixture
from launcher.data.feed.order import Order, checksum
from launcher.data.feed.samples import Samples
from launcher.data.source import DataSpec
from launcher.errors import Problem, UserError
from launcher.faultpoints import Point, reach
from launcher.objectives.protocol import Per
from launcher.runplan import Batch
from launcher.train.skips import Skip, data_step

PAD_ID = 0
"""Fills sequences up. No row attends to it and no loss counts it, so any id of the vocabulary does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepData:
    """The data of one optimiser step."""

    step: int
    """Optimiser step, from 0."""
    batches: list[MicroBatch]
    """This rank's share, one per accumulation step."""
    fed: int
    """Checksum of the samples in this rank's share."""
    trained: int
    """Tokens that carry loss, over all ranks."""
    weight: int
    """What the loss is a mean over: those tokens, or examples, over all ranks."""
    processed: int
    """Tokens that go through the model, over all ranks."""


def layout_of(config: Config, batch: Batch) -> Layout:
    """How the run's samples become tensors."""
    flat = config.model.attention is Attention.flash_attention_2
    return Layout(micro_batch_size=batch.micro_batch_size, pad_id=PAD_ID, flat=flat)


def order_of(spec: DataSpec, samples: Samples, seed: int) -> Order:
    """The order of the run's samples; UserError where a source that is to take turns has none."""
    weights = [source.weight for source in spec.sources if source.weight is not None]
    counts = [source.count for source in spec.sources if source.count is not None]
    if not weights and not counts:
        return Order(seed=seed, sizes=samples.sizes)
    empty = [source.name for source, size in zip(spec.sources, samples.sizes, strict=True) if size == 0]
    if empty:
        remedy = "look at its rejected rows with `launcher data check`, or leave it out"
        raise UserError(*(Problem(where="data.train", message=f"{name} has no rows", remedy=remedy) for name in empty))
    mixture = Mixture.by_weight(weights) if weights else Mixture.by_count(counts)
    return Order(seed=seed, sizes=samples.sizes, mixture=mixture)


def step_data(
    samples: Samples,
    order: Order,
    layout: Layout,
    batch: Batch,
    *,
    rank: int,
    start: int,
    stop: int,
    per: Per = Per.token,
    skips: Sequence[Skip] = (),
) -> Iterator[StepData]:
    """Data of the steps from `start` up to `stop`; starts at any step as fast as at the first."""
    for step in range(start, stop):
        reach(Point.data, rank=rank, step=step + 1)
        chosen = order.samples_of_step(data_step(step, skips), batch.global_batch_size)
        batches = micro_batches(samples, layout, chosen=chosen, rank=rank, data_parallel_size=batch.data_parallel_size)
        trained = int(samples.trained_counts(chosen).sum())
        yield StepData(
            step=step,
            batches=batches,
            fed=checksum(sample for micro in batches for sample in micro.samples),
            trained=trained,
            weight=trained if per is Per.token else samples.examples(chosen),
            processed=int(samples.lengths(chosen).sum()),
        )
