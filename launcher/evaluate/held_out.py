"""Loss and measures on held-out rows, weighted over all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from launcher.data.feed.batches import Layout, eval_batches
from launcher.data.feed.samples import Samples
from launcher.objectives.protocol import Objective, Per

VOTE_EVERY = 8
"""Batches between two questions whether any rank was told to stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a model makes of held-out rows; the same on every rank."""

    loss: float
    """Mean over trained tokens, or examples."""
    tokens: int
    """Trained tokens."""
    measured: dict[str, float]
    """The objective's measures, and what it makes of its counts."""


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
    batches = eval_batches(samples, layout, rank=dist.get_rank(), data_parallel_size=dist.get_world_size())
    engine.eval()
    try:
        with torch.no_grad():
            for number, batch in enumerate(batches):
                before_batch()
                if number % VOTE_EVERY == 0 and stopped():
                    return None
                scored = objective.score(engine, batch.to(device))
                totals += torch.stack([scored.loss_sum, *(scored.sums[name] for name in names)])
                if scored.counts is not None:
                    counts = scored.counts if counts is None else counts + scored.counts
    finally:
        engine.train()
    dist.all_reduce(totals)
    if counts is not None:
        dist.all_reduce(counts)
    every = np.arange(len(samples), dtype=np.int64)
    tokens = int(samples.trained_counts(every).sum())
    weight = tokens if objective.needs.per is Per.token else samples.examples(every)
    loss, *measured = (total / weight if weight else math.nan for total in totals.tolist())
    summary = {} if counts is None else objective.summarise(counts.tolist())
    return Measured(loss=loss, tokens=tokens, measured={**dict(zip(names, measured, strict=True)), **summary})
