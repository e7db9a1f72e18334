"""Cutting global batches for ranks, and padding."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from launcher.data.batches import MicroBatch, eval_batches, micro_batches
from launcher.data.tokens import TokenStore

MakeStore = Callable[[Sequence[tuple[list[int], list[bool]]]], TokenStore]

PAD = 0


@pytest.fixture
def store(make_store: MakeStore) -> TokenStore:
    """Row i is [100 + i] repeated 1 + i % 4 times; its last two tokens are trained, but never the first."""
    lengths = [1 + i % 4 for i in range(23)]
    return make_store([([100 + i] * n, [place >= max(1, n - 2) for place in range(n)]) for i, n in enumerate(lengths)])


def rows_in(batch: MicroBatch) -> list[int]:
    """Which rows a micro batch holds, in order; -1 for a filler."""
    return [int(ids[0]) - 100 if ids[0] != PAD else -1 for ids in batch.input_ids]


def cut(store: TokenStore, rows: list[int], rank: int, ranks: int, micro: int) -> list[MicroBatch]:
    return micro_batches(
        store, rows=np.array(rows), rank=rank, data_parallel_size=ranks, micro_batch_size=micro, pad_id=PAD
    )


def test_the_cut_is_accumulation_by_rank_by_micro_batch(store: TokenStore) -> None:
    rows = [7, 3, 9, 1, 2, 8, 0, 5]
    assert [rows_in(batch) for batch in cut(store, rows, 0, 2, 2)] == [[7, 3], [2, 8]]
    assert [rows_in(batch) for batch in cut(store, rows, 1, 2, 2)] == [[9, 1], [0, 5]]


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("micro", [1, 2])
def test_all_ranks_together_hold_the_global_batch_at_any_world_size(store: TokenStore, ranks: int, micro: int) -> None:
    rows = [7, 3, 9, 1, 2, 8, 0, 5, 11, 10, 4, 6, 15, 13, 12, 14]
    held = [rows_in(batch) for rank in range(ranks) for batch in cut(store, rows, rank, ranks, micro)]
    assert sorted(itertools.chain(*held)) == sorted(rows)
    assert {len(part) for part in held} == {micro}


def test_a_batch_is_padded_on_the_right_to_its_longest_row(store: TokenStore) -> None:
    (batch,) = cut(store, [1, 3], 0, 1, 2)
    assert batch.input_ids.tolist() == [[101, 101, PAD, PAD], [103, 103, 103, 103]]
    assert batch.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.labels.tolist() == [[-100, 101, -100, -100], [-100, -100, 103, 103]]
    assert {t.dtype for t in (batch.input_ids, batch.attention_mask, batch.labels)} == {torch.int64}


def test_labels_count_what_the_store_counts(store: TokenStore) -> None:
    rows = list(range(16))
    batches = [batch for rank in range(4) for batch in cut(store, rows, rank, 4, 2)]
    labels = sum(int((batch.labels[:, 1:] != -100).sum()) for batch in batches)
    assert labels == store.trained_counts(np.array(rows)).sum()


def test_a_global_batch_that_does_not_divide_is_our_bug(store: TokenStore) -> None:
    with pytest.raises(AssertionError, match="does not divide"):
        cut(store, [1, 2, 3], 0, 2, 1)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("micro", [1, 4, 7])
def test_evaluation_sees_each_row_once_with_equally_many_batches_per_rank(
    store: TokenStore, ranks: int, micro: int
) -> None:
    per_rank = [
        list(eval_batches(store, rank=rank, data_parallel_size=ranks, micro_batch_size=micro, pad_id=PAD))
        for rank in range(ranks)
    ]
    assert len({len(batches) for batches in per_rank}) == 1
    assert {batch.input_ids.shape[0] for batches in per_rank for batch in batches} == {micro}
    seen = [row for batches in per_rank for batch in batches for row in rows_in(batch)]
    assert sorted(row for row in seen if row >= 0) == list(range(23))


def test_filler_rows_carry_no_loss_and_attend_to_something(store: TokenStore) -> None:
    batches = list(eval_batches(store, rank=1, data_parallel_size=2, micro_batch_size=12, pad_id=PAD))
    filler = torch.tensor([row == -1 for row in rows_in(batches[0])])
    assert filler.sum() == 1
    assert (batches[0].labels[filler] == -100).all()
    assert (batches[0].attention_mask.sum(dim=1) > 0).all()
