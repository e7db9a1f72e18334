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
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from launcher.data.feed.mismatched import mismatched_row
from launcher.data.feed.order import Int64Array
from launcher.data.feed.samples import Samples
from launcher.data.tokens import AnyArray

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
class Played:
    """What is known of answers that the model itself gave."""

    rewards: Tensor
    """float32 [rows]: how good each is."""
    advantages: Tensor
    """float32 [rows]: by how much that is better than could be expected."""
    spreads: Tensor
    """float32 [rows]: standard deviation of the rewards to the same question."""
    mean_tokens: Tensor
    """float32 [rows]: tokens of an answer to the same question, on average."""
    logps: Tensor | None = None
    """float32 [trained]: log-probability of each token under the model that gave it; None where that is the model in
    training, as it is now."""
    untrained: Tensor | None = None
    """The same under the untrained model; None where nobody asks."""
    sampled: Tensor | None = None
    """The same where the token was drawn; None where that was the model in training itself."""

    def to(self, device: torch.device) -> Played:
        """The same on `device`."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device, non_blocking=True)

        return replace(
            self,
            rewards=self.rewards.to(device, non_blocking=True),
            advantages=self.advantages.to(device, non_blocking=True),
            spreads=self.spreads.to(device, non_blocking=True),
            mean_tokens=self.mean_tokens.to(device, non_blocking=True),
            logps=moved(self.logps),
            untrained=moved(self.untrained),
            sampled=moved(self.sampled),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Largest:
    """What the teacher thought of each trained token, asked beforehand."""

    logps: Tensor
    """float32 [trained, k + 1]: log-probabilities of the k likeliest tokens, and of all others together."""
    ids: Tensor
    """int32 [trained, k]: these tokens."""

    @classmethod
    def of(cls, records: AnyArray) -> Largest:
        """As they are stored."""
        return cls(logps=torch.from_numpy(records["logps"].copy()), ids=torch.from_numpy(records["ids"].copy()))

    def to(self, device: torch.device) -> Largest:
        """The same on `device`."""
        return Largest(logps=self.logps.to(device, non_blocking=True), ids=self.ids.to(device, non_blocking=True))


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
    mismatched: MicroBatch | None = None
    """The same rows' prompts with answers of other rows, where the objective asks for them. Packed they may be longer
    together than the rows are: nothing is learnt from them, so that no activations are kept."""
    played: Played | None = None
    """What is known of the rows, where the model itself gave their answers."""
    largest: Largest | None = None
    """What the teacher thought of their trained tokens, where it was asked beforehand."""

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
            mismatched=None if self.mismatched is None else self.mismatched.to(device),
            played=None if self.played is None else self.played.to(device),
            largest=None if self.largest is None else self.largest.to(device),
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


def batches_of(samples: Samples, layout: Layout, numbers: range, *, count: int) -> Iterator[MicroBatch]:
    """So many batches of consecutive samples; when there are none left, their sequences are without labels."""
    height = layout.micro_batch_size
    for place in range(count):
        yield _collate(samples, numbers[place * height : (place + 1) * height], layout)


def side_by_side(rows: Sequence[tuple[AnyArray, int]], samples: Sequence[int], pad_id: int) -> MicroBatch:
    """Rows that are in no store, each a sequence of its own: token ids, and from which place on they carry loss (1 or
    later)."""
    width = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    labels = torch.full_like(input_ids, IGNORED)
    row_ids = torch.full_like(input_ids, -1)
    for place, (ids, first) in enumerate(rows):
        input_ids[place, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
        labels[place, first : len(ids)] = input_ids[place, first : len(ids)]
        row_ids[place, : len(ids)] = place
    return MicroBatch(
        input_ids=input_ids,
        attention_mask=(row_ids >= 0).long(),
        position_ids=None,
        labels=labels,
        samples=tuple(samples),
        row_ids=row_ids,
        rows=len(rows),
        targets=torch.zeros(len(rows), 0),
    )


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
    mismatched = None
    if samples.mismatched:
        others = [[mismatched_row(samples.store, row) for row in rows] for rows in members]
        mismatched = _laid_out(samples, others, numbers, every, layout, height, samples.mismatched_reference)
    sequences = [[samples.store.row(row) for row in rows] for rows in members]
    batch = _laid_out(samples, sequences, numbers, every, layout, height, samples.reference, mismatched)
    return batch if samples.largest is None else replace(batch, largest=Largest.of(samples.largest(numbers)))


def _laid_out(
    samples: Samples,
    sequences: Sequence[Sequence[tuple[AnyArray, AnyArray]]],
    numbers: Sequence[int],
    every: Int64Array,
    layout: Layout,
    height: int,
    reference: AnyArray | None,
    mismatched: MicroBatch | None = None,
) -> MicroBatch:
    """Rows, each with its loss mask, as tensors of `height` sequences; `every` are their numbers."""
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
        reference=None if reference is None else torch.from_numpy(reference[every]),
        mismatched=mismatched,
    )
