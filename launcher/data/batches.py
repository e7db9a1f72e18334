"""Cutting a global batch into this rank's micro batches, as padded tensors.

Owns the cut and the padding. Must not know the order of rows (`order`), the objective, or the process group: rank and
world come in as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from launcher.data.order import Int64Array
from launcher.data.tokens import TokenStore

IGNORED = -100
"""The label of a token that carries no loss; what `torch.nn.functional.cross_entropy` ignores by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """Rows for one forward pass, padded on the right to the longest of them."""

    input_ids: Tensor
    """int64 [micro batch, length]."""
    attention_mask: Tensor
    """int64 [micro batch, length]: 1 for tokens of the row, 0 for padding."""
    labels: Tensor
    """int64 [micro batch, length]: the token itself where it carries loss, else -100. Not shifted: position t is
    predicted from positions before t, and the objective does that shift; column 0 is -100 throughout."""
    rows: tuple[int, ...]
    """Numbers of the rows that were put in, fillers left out."""

    def to(self, device: torch.device) -> MicroBatch:
        """The same batch on `device`."""
        return MicroBatch(
            input_ids=self.input_ids.to(device, non_blocking=True),
            attention_mask=self.attention_mask.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            rows=self.rows,
        )


def micro_batches(
    store: TokenStore, *, rows: Int64Array, rank: int, data_parallel_size: int, micro_batch_size: int, pad_id: int
) -> list[MicroBatch]:
    """This rank's part of one optimiser step, one entry per gradient accumulation step.

    `rows` [global batch] is laid out as [accumulation, data parallel, micro batch]; rank r takes [:, r, :]. The sets
    of rows over all ranks are the global batch, whatever the number of ranks.
    """
    assert 0 <= rank < data_parallel_size, (rank, data_parallel_size)
    assert len(rows) % (data_parallel_size * micro_batch_size) == 0, (
        f"a global batch of {len(rows)} does not divide into {data_parallel_size} ranks x {micro_batch_size} rows"
    )
    mine = rows.reshape(-1, data_parallel_size, micro_batch_size)[:, rank, :]
    return [_collate(store, part.tolist(), micro_batch_size, pad_id) for part in mine]


def eval_batches(
    store: TokenStore, *, rank: int, data_parallel_size: int, micro_batch_size: int, pad_id: int
) -> Iterator[MicroBatch]:
    """Every row once over all ranks, in order; the same number of equally tall batches on every rank.

    The tail is filled with one-token rows without labels, so a batch may carry no loss at all: sum losses, then divide.
    """
    assert 0 <= rank < data_parallel_size, (rank, data_parallel_size)
    for start in range(0, len(store), data_parallel_size * micro_batch_size):
        first = start + rank * micro_batch_size
        yield _collate(store, range(first, min(first + micro_batch_size, len(store))), micro_batch_size, pad_id)


def _collate(store: TokenStore, rows: Sequence[int], height: int, pad_id: int) -> MicroBatch:
    """Pad `rows` to the longest of them; fill up to `height` rows with ones that carry no loss."""
    pairs = [store.row(row) for row in rows]
    shape = (height, max((len(ids) for ids, _ in pairs), default=1))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    # A filler attends to its own one token: a row that attends to nothing is a softmax over nothing, NaN.
    attention_mask[len(pairs) :, 0] = 1
    for place, (ids, trained) in enumerate(pairs):
        input_ids[place, : len(ids)] = ids
        attention_mask[place, : len(ids)] = 1
        labels[place, : len(ids)][trained] = ids[trained]
    return MicroBatch(
        input_ids=torch.from_numpy(input_ids),
        attention_mask=torch.from_numpy(attention_mask),
        labels=torch.from_numpy(labels),
        rows=tuple(rows),
    )
