"""Sums of loss and measures over held-out rows, on all ranks, and the means made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from launcher.data.feed.batches import Layout, MicroBatch, eval_batches, grouped_batches
from launcher.data.feed.order import Int64Array
from launcher.data.tokens import AnyArray
from launcher.evaluate.sets import Groups, HeldOutSet
from launcher.measures import ALL
from launcher.objectives.protocol import Looking, Objective, Per

MOST_LOSS = 700.0
"""Of a larger one the exponential is no number."""
VOTE_EVERY = 8
"""Batches between two questions whether any rank was told to stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summed:
    """What a model makes of a held-out set; the same on every rank."""

    names: tuple[str, ...]
    """Of the totals: `loss`, and what is measured beside it."""
    totals: AnyArray
    """float64 [groups, names]: sums; one group where nothing is told apart."""
    counts: AnyArray | None
    """What the objective summarises, float64."""
    tokens: Int64Array
    """[groups]: trained tokens."""
    examples: Int64Array
    """[groups]: rows, or pairs."""


class _Stopped(Exception):
    """Some rank must stop: thrown by all of them at the same batch."""


def summed_all(
    engine: Any,
    objective: Objective,
    held_out: HeldOutSet,
    layout: Layout,
    *,
    device: torch.device,
    before_batch: Callable[[], None],
    stopped: Callable[[], bool],
) -> Summed | None:
    """Every held-out sample once; collective.

    `stopped` is asked now and then, on all ranks at once (it is collective); None if it says so.
    """
    names, groups = objective.measures, held_out.groups
    size = 1 if groups is None else len(groups.members)
    totals = torch.zeros((size, 1 + len(names)), dtype=torch.float64, device=device)
    counts: torch.Tensor | None = None

    def batches() -> Iterator[tuple[int, MicroBatch]]:
        for number, (group, batch) in enumerate(_batches(held_out, layout)):
            before_batch()
            if number % VOTE_EVERY == 0 and stopped():
                raise _Stopped
            yield group, batch.to(device)

    engine.eval()
    try:
        with torch.no_grad():
            if isinstance(objective, Looking):
                objective.look_all(engine, (batch for _, batch in batches()))
            for group, batch in batches():
                scored = objective.score(engine, batch)
                totals[group] += torch.stack([scored.loss_sum, *(scored.sums[name] for name in names)])
                if scored.counts is not None:
                    counts = scored.counts if counts is None else counts + scored.counts
    except _Stopped:
        return None
    finally:
        engine.train()
    dist.all_reduce(totals)
    if counts is not None:
        dist.all_reduce(counts)
    samples = held_out.samples
    every = np.arange(len(samples), dtype=np.int64)
    of = np.zeros(len(samples), dtype=np.int64) if groups is None else groups.of
    examples = samples.rows_of(every)[1] // samples.each
    return Summed(
        names=("loss", *names),
        totals=totals.cpu().numpy(),
        counts=None if counts is None else counts.cpu().numpy(),
        tokens=_per_group(of, samples.trained_counts(every), size),
        examples=_per_group(of, examples, size),
    )


def measured(objective: Objective, sets: Mapping[str, Summed]) -> dict[str, float]:
    """As metrics.jsonl has it: `eval_loss`, a mean over trained tokens or examples of all sets; for tokens also
    `eval_perplexity`, the exponential of the loss, or of the `cross_entropy` among the measures; the objective's
    measures, and what it makes of its counts. The same of every set with a name, `eval_NAME_loss` …, and its
    `eval_NAME_tokens`.
    """
    found = {f"{ALL}_{name}": value for name, value in _of_sets(objective, list(sets.values())).items()}
    for key, summed in sets.items():
        if key != ALL:
            found |= {f"{key}_{name}": value for name, value in _of_sets(objective, [summed]).items()}
            found[f"{key}_tokens"] = int(summed.tokens.sum())
    return found


def by_slice(objective: Objective, summed: Summed, groups: Groups) -> dict[str, dict[str, dict[str, float | None]]]:
    """{field: {value: {examples, tokens, loss, measures …}}}; a mean that is no number is None."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for place, (field, values) in enumerate(groups.values.items()):
        found[field] = {}
        for number, value in enumerate(values):
            mine = groups.members[:, place] == number
            if not mine.any():
                continue
            tokens, examples = int(summed.tokens[mine].sum()), int(summed.examples[mine].sum())
            weight = tokens if objective.needs.per is Per.token else examples
            means = _means(summed.names, summed.totals[mine].sum(axis=0), weight)
            finite = {name: mean if math.isfinite(mean) else None for name, mean in means.items()}
            found[field][value] = {"examples": examples, "tokens": tokens, **finite}
    return found


def _batches(held_out: HeldOutSet, layout: Layout) -> Iterator[tuple[int, MicroBatch]]:
    rank, size = dist.get_rank(), dist.get_world_size()
    if held_out.groups is None:
        batches = eval_batches(held_out.samples, layout, rank=rank, data_parallel_size=size)
        return ((0, batch) for batch in batches)
    return grouped_batches(held_out.samples, layout, held_out.groups.of, rank=rank, data_parallel_size=size)


def _per_group(of: Int64Array, values: Int64Array, size: int) -> Int64Array:
    """Sums of whole numbers; exact as floats up to 2**53."""
    return np.bincount(of, weights=values, minlength=size).astype(np.int64)


def _of_sets(objective: Objective, sets: Sequence[Summed]) -> dict[str, float]:
    per_token = objective.needs.per is Per.token
    weight = sum(int((one.tokens if per_token else one.examples).sum()) for one in sets)
    names = sets[0].names
    totals = sum((one.totals.sum(axis=0) for one in sets), np.zeros(len(names)))
    found = _means(names, totals, weight)
    if per_token:
        surprise = found.get("cross_entropy", found["loss"])
        found["perplexity"] = math.exp(surprise) if surprise < MOST_LOSS else math.inf
    counts = [one.counts for one in sets if one.counts is not None]
    return found | ({} if not counts else objective.summarise(np.sum(counts, axis=0).tolist()))


def _means(names: Sequence[str], totals: AnyArray, weight: int) -> dict[str, float]:
    means = (total / weight if weight else math.nan for total in totals.tolist())
    return dict(zip(names, means, strict=True))
