"""Loss and measures on held-out rows, weighted over all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from launcher.data.feed.batches import Layout, MicroBatch, eval_batches
from launcher.data.feed.samples import Samples
from launcher.objectives.protocol import Looking, Objective, Per

MOST_LOSS = 700.0
"""Of a larger one the exponential is no number."""
VOTE_EVERY = 8
"""Batches between two questions whether any rank was told to stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a model makes of held-out rows; the same on every rank."""

    tokens: int
    """Trained tokens."""
    named: dict[str, float]
    """As metrics.jsonl has it: `eval_loss`, a mean over trained tokens or examples; for tokens also `eval_perplexity`,
    the exponential of the loss, or of the `cross_entropy` among the measures; these, and what the objective makes of
    its counts."""


class _Stopped(Exception):
    """Some rank must stop: thrown by all of them at the same batch."""


def held_out_all(
    engine: Any,
    objective: Objective,
    samples: Samples,
    layout: Layout,
    *,
    device: torch.device,
    before_batch: Callable[[], None],
    stopped: Callable[[], bool],
) -> Measured | None:
    """Every held-out sample once; collective.

    `stopped` is asked now and then, on all ranks at once (it is collective); None if it says so.
    """
    names = objective.measures
    totals = torch.zeros(1 + len(names), dtype=torch.float64, device=device)
    counts: torch.Tensor | None = None

    def batches() -> Iterator[MicroBatch]:
        rank, size = dist.get_rank(), dist.get_world_size()
        for number, batch in enumerate(eval_batches(samples, layout, rank=rank, data_parallel_size=size)):
            before_batch()
            if number % VOTE_EVERY == 0 and stopped():
                raise _Stopped
            yield batch.to(device)

    engine.eval()
    try:
        with torch.no_grad():
            if isinstance(objective, Looking):
                objective.look_all(engine, batches())
            for batch in batches():
                scored = objective.score(engine, batch)
                totals += torch.stack([scored.loss_sum, *(scored.sums[name] for name in names)])
                if scored.counts is not None:
                    counts = scored.counts if counts is None else counts + scored.counts
    except _Stopped:
        return None
    finally:
        engine.train()
    dist.all_reduce(totals)
    if counts is not None:
        dist.all_reduce(counts)
    every = np.arange(len(samples), dtype=np.int64)
    tokens = int(samples.trained_counts(every).sum())
    weight = tokens if objective.needs.per is Per.token else samples.examples(every)
    loss, *means = (total / weight if weight else math.nan for total in totals.tolist())
    found = {"loss": loss, **dict(zip(names, means, strict=True))}
    if objective.needs.per is Per.token:
        surprise = found.get("cross_entropy", loss)
        found["perplexity"] = math.exp(surprise) if surprise < MOST_LOSS else math.inf
    found |= {} if counts is None else objective.summarise(counts.tolist())
    return Measured(tokens=tokens, named={f"eval_{name}": value for name, value in found.items()})
