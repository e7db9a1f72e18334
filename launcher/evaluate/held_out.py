"""Loss on held-out rows, token-weighted over all ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from launcher.data.feed.batches import IGNORED, Layout, eval_batches
from launcher.data.feed.samples import Samples
from launcher.objectives.protocol import Objective

VOTE_EVERY = 8
"""Batches between two questions whether any rank was told to stop."""


def held_out_loss_all(
    engine: Any,
    objective: Objective,
    samples: Samples,
    layout: Layout,
    *,
    device: torch.device,
    before_batch: Callable[[], None],
    stopped: Callable[[], bool],
) -> tuple[float, int] | None:
    """Mean loss per trained token and the number of those tokens; collective, and the same on every rank.

    `stopped` is asked now and then, on all ranks at once (it is collective); None if it says so.
    """
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    batches = eval_batches(samples, layout, rank=dist.get_rank(), data_parallel_size=dist.get_world_size())
    engine.eval()
    try:
        with torch.no_grad():
            for number, batch in enumerate(batches):
                before_batch()
                if number % VOTE_EVERY == 0 and stopped():
                    return None
                batch = batch.to(device)
                totals[0] += objective.loss_sum(engine, batch)
                totals[1] += (batch.labels != IGNORED).sum()
    finally:
        engine.train()
    dist.all_reduce(totals)
    loss_sum, tokens = totals.tolist()
    return (loss_sum / tokens if tokens else math.nan), int(tokens)
