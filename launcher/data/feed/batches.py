"""Cutting a global batch into this rank's micro batches, as tensors.

Owns the cut and the layout. Must not know the order of samples (`order`), the objective, the config, or the process
group: rank and world come in as numbers.

Rows that share a sequence must not see each other. Each row's positions begin at 0 again, and no mask and no cache is
given: from that transformers builds the mask of every layer, sliding windows among them (5.x,
`masking_utils.find_packed_sequence_indices`), and tells flash attention the rows' bounds, there only where the batch is
a single sequence (`modeling_flash_attention_utils._is_packed_sequence`). Padding counts as one more row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from launcher.data.feed.order import Int64Array
from launcher.data.feed.samples import Samples

IGNORED = -100
"""The label of a token that carries no loss; what `torch.nn.functional.cross_entropy` ignores by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How samples become tensors."""

    micro_batch_size: int
    """Samples of a rank for one forward pass."""
    pad_id: int
    """Token that fills sequences up."""
    flat: bool
    """Packs are put end to end, as one sequence without padding: what variable-length kernels want. Otherwise each is
    a sequence of its own; so is, always, a sample that is no pack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """Samples for one forward pass, padded on the right to the longest sequence."""

    input_ids: Tensor
    """int64 [sequences, length]."""
    attention_mask: Tensor | None
    """int64 [sequences, length]: 1 for tokens of the row, 0 for padding; None where `position_ids` tell rows apart."""
    position_ids: Tensor | None
    """int64 [sequences, length]: place of each token in its row; None where a sequence is one row."""
    labels: Tensor
    """int64 [sequences, length]: the token itself where it carries loss, else -100. Not shifted: position t is
    predicted from positions before t, and the objective does that shift; -100 for the first token of every row."""
    samples: tuple[int, ...]
    """Numbers of the samples that were put in, fillers left out."""
    row_ids: Tensor
    """int64 [sequences, length]: which row a token belongs to, counted through the batch from 0; -1 for padding. The
    rows of an example follow each other."""
    rows: int
    """How many rows there are, fillers left out."""
    targets: Tensor
    """float32 [examples, width]: what each example is labelled with; width 0 where there are no labels."""
    reference: Tensor | None = None
    """float32 [rows]: the log-probability that the untrained model gives the row's trained tokens together."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same batch on `device`."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return MicroBatch(
            input_ids=moved(self.input_ids),
            attention_mask=None if self.attention_mask is None else moved(self.attention_mask),
            position_ids=None if self.position_ids is None else moved(self.position_ids),
            labels=moved(self.labels),
            samples=self.samples,
            row_ids=moved(self.row_ids),
            rows=self.rows,
            targets=moved(self.targets),
            reference=None if self.reference is None else moved(self.reference),
        )


def micro_batches(
    samples: Samples, layout: Layout, *, chosen: Int64Array, rank: int, data_parallel_size: int
) -> list[MicroBatch]:
    """This rank's part of one optimiser step, one entry per gradient accumulation step.

    `chosen` [global batch] samples are laid out as [accumulation, data parallel, micro batch]; rank r takes [:, r, :].
    The sets of samples over all ranks are the global batch, whatever the number of ranks.
    """
    assert 0 <= rank < data_parallel_size, (rank, data_parallel_size)
    assert len(chosen) % (data_parallel_size * layout.micro_batch_size) == 0, (
        f"a global batch of {len(chosen)} does not divide into {data_parallel_size} ranks x {layout.micro_batch_size}"
    )
    mine = chosen.reshape(-1, data_parallel_size, layout.micro_batch_size)[:, rank, :]
    return [_collate(samples, part.tolist(), layout) for part in mine]


def eval_batches(
    samples: Samples, layout: Layout, *, rank: int, data_parallel_size: int, start: int = 0, stop: int | None = None
) -> Iterator[MicroBatch]:
    """Every sample from `start` to `stop` once over all ranks, in order; as many equally tall batches on every rank.

    The tail is filled with sequences without labels, so a batch may carry no loss at all: sum losses, then divide.
    """
    assert 0 <= rank < data_parallel_size, (rank, data_parallel_size)
    height = layout.micro_batch_size
    stop = len(samples) if stop is None else stop
    for low in range(start, stop, data_parallel_size * height):
        first = low + rank * height
        yield _collate(samples, range(first, min(first + height, stop)), layout)


def grouped_batches(
    samples: Samples, layout: Layout, groups: Int64Array, *, rank: int, data_parallel_size: int
) -> Iterator[tuple[int, MicroBatch]]:
    """Every sample once over all ranks, each batch of one group only, with the group; as many on every rank.

    `groups` [samples] counts from 0. Within a group samples keep their order.
    """
    order, height = np.argsort(groups, kind="stable"), layout.micro_batch_size
    members = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    cuts = [
        (group, mine[low : low + height]) for group, mine in enumerate(members) for low in range(0, len(mine), height)
    ]
    for low in range(0, len(cuts), data_parallel_size):
        group, chosen = cuts[low + rank] if low + rank < len(cuts) else (0, order[:0])
        yield group, _collate(samples, chosen.tolist(), layout)


def _collate(samples: Samples, numbers: Sequence[int], layout: Layout) -> MicroBatch:
    """The samples `numbers` as tensors; sequences that are missing for a whole micro batch carry no loss."""
    members = [samples.rows(number) for number in numbers]
    every = np.array([row for rows in members for row in rows], dtype=np.int64)
    if not samples.packed:
        members, height = [[row] for row in every.tolist()], layout.micro_batch_size * samples.each
    elif layout.flat:
        members, height = [every.tolist()], 1
    else:
        height = layout.micro_batch_size
    sequences = [[samples.store.row(row) for row in rows] for rows in members]
    width = max([1, *(sum(len(ids) for ids, _ in rows) for rows in sequences)])
    input_ids = np.full((height, width), layout.pad_id, dtype=np.int64)
    labels = np.full((height, width), IGNORED, dtype=np.int64)
    attention_mask = np.zeros((height, width), dtype=np.int64)
    position_ids = np.tile(np.arange(width, dtype=np.int64), (height, 1))
    row_ids = np.full((height, width), -1, dtype=np.int64)
    row = 0
    # A filler attends to its own one token: a row that attends to nothing is a softmax over nothing, NaN.
    attention_mask[len(sequences) :, 0] = 1
    for place, rows in enumerate(sequences):
        end = 0
        for ids, trained in rows:
            start, end = end, end + len(ids)
            input_ids[place, start:end] = ids
            labels[place, start:end][trained] = ids[trained]
            labels[place, start] = IGNORED
            position_ids[place, start:end] -= start
            row_ids[place, start:end] = row
            row += 1
        attention_mask[place, :end] = 1
        position_ids[place, end:] -= end
    return MicroBatch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=None if samples.packed else torch.from_numpy(attention_mask),
        position_ids=torch.from_numpy(position_ids) if samples.packed else None,
        labels=torch.from_numpy(labels),
        samples=tuple(numbers),
        row_ids=torch.from_numpy(row_ids),
        rows=row,
        targets=torch.from_numpy(samples.store.targets(every[:: samples.each] // samples.each)),
        reference=None if samples.reference is None else torch.from_numpy(samples.reference[every]),
    )
