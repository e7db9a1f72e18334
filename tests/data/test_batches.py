"""Cutting global batches for ranks, padding, and rows side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from launcher.data.feed.batches import Layout, MicroBatch, eval_batches, grouped_batches, micro_batches
from launcher.data.feed.samples import Samples
from launcher.data.tokens import TokenStore

MakeStore = Callable[..., TokenStore]

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
    samples, layout = Samples(store, packed=False), Layout(micro_batch_size=micro, pad_id=PAD, flat=False)
    return micro_batches(samples, layout, chosen=np.array(rows), rank=rank, data_parallel_size=ranks)


def for_evaluation(store: TokenStore, rank: int, ranks: int, micro: int) -> list[MicroBatch]:
    samples, layout = Samples(store, packed=False), Layout(micro_batch_size=micro, pad_id=PAD, flat=False)
    return list(eval_batches(samples, layout, rank=rank, data_parallel_size=ranks))


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
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch.position_ids is None
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
    per_rank = [for_evaluation(store, rank, ranks, micro) for rank in range(ranks)]
    assert len({len(batches) for batches in per_rank}) == 1
    assert {batch.input_ids.shape[0] for batches in per_rank for batch in batches} == {micro}
    seen = [row for batches in per_rank for batch in batches for row in rows_in(batch)]
    assert sorted(row for row in seen if row >= 0) == list(range(23))


def test_filler_rows_carry_no_loss_and_attend_to_something(store: TokenStore) -> None:
    batches = for_evaluation(store, 1, 2, 12)
    filler = torch.tensor([row == -1 for row in rows_in(batches[0])])
    assert filler.sum() == 1
    assert (batches[0].labels[filler] == -100).all()
    assert batches[0].attention_mask is not None
    assert (batches[0].attention_mask.sum(dim=1) > 0).all()


@pytest.fixture
def packs(make_store: MakeStore) -> Samples:
    """Two packs of up to 6 tokens: rows 0 (4 tokens) and 2 (1), rows 1 (3) and 3 (3). All tokens are trained."""
    store = make_store([([100 + i] * n, [True] * n) for i, n in enumerate([4, 3, 1, 3])], seq_len=6)
    samples = Samples(store, packed=True)
    assert [samples.rows(0), samples.rows(1)] == [[0, 2], [1, 3]]
    return samples


def test_rows_of_a_pack_lie_side_by_side_each_with_positions_of_its_own(packs: Samples) -> None:
    layout = Layout(micro_batch_size=2, pad_id=PAD, flat=False)
    (batch,) = micro_batches(packs, layout, chosen=np.array([0, 1]), rank=0, data_parallel_size=1)
    assert batch.input_ids.tolist() == [[100, 100, 100, 100, 102, PAD], [101, 101, 101, 103, 103, 103]]
    assert batch.attention_mask is None
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 0], [0, 1, 2, 0, 1, 2]]
    # Nothing predicts a row's first token, least of all the row before.
    assert batch.labels.tolist() == [[-100, 100, 100, 100, -100, -100], [-100, 101, 101, -100, 103, 103]]
    assert batch.samples == (0, 1)
    assert {t.dtype for t in (batch.input_ids, batch.position_ids, batch.labels)} == {torch.int64}


def test_flat_packs_are_one_sequence_without_padding(packs: Samples) -> None:
    layout = Layout(micro_batch_size=2, pad_id=PAD, flat=True)
    (batch,) = micro_batches(packs, layout, chosen=np.array([1, 0]), rank=0, data_parallel_size=1)
    assert batch.input_ids.tolist() == [[101, 101, 101, 103, 103, 103, 100, 100, 100, 100, 102]]
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 0]]
    assert batch.labels.tolist() == [[-100, 101, 101, -100, 103, 103, -100, 100, 100, 100, -100]]
    assert batch.samples == (1, 0)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_packed_evaluation_sees_each_row_once_with_equally_many_batches_per_rank(
    make_store: MakeStore, ranks: int, flat: bool
) -> None:
    store = make_store([([100 + i] * (1 + i % 4), [False] * (1 + i % 4)) for i in range(23)], seq_len=6)
    samples, layout = Samples(store, packed=True), Layout(micro_batch_size=2, pad_id=PAD, flat=flat)
    per_rank = [list(eval_batches(samples, layout, rank=rank, data_parallel_size=ranks)) for rank in range(ranks)]
    assert len({len(batches) for batches in per_rank}) == 1
    seen: list[int] = []
    for batch in itertools.chain(*per_rank):
        assert batch.position_ids is not None
        begun = (batch.position_ids == 0) & (batch.input_ids != PAD)
        seen += (batch.input_ids[begun] - 100).tolist()
    assert sorted(seen) == list(range(23))


@pytest.mark.parametrize(("ranks", "micro"), [(1, 1), (2, 2), (3, 4)])
def test_batches_of_groups_hold_every_row_once_and_never_two_groups(store: TokenStore, ranks: int, micro: int) -> None:
    samples, layout = Samples(store, packed=False), Layout(micro_batch_size=micro, pad_id=PAD, flat=False)
    groups = np.array([2, 0, 1, 0, 0] * 4 + [1, 1, 1])
    each = [
        list(grouped_batches(samples, layout, groups, rank=rank, data_parallel_size=ranks)) for rank in range(ranks)
    ]
    assert len({len(mine) for mine in each}) == 1
    held = [(group, row) for mine in each for group, batch in mine for row in rows_in(batch) if row >= 0]
    assert sorted(held) == sorted((int(group), row) for row, group in enumerate(groups))
    assert {len(batch.input_ids) for mine in each for _, batch in mine} == {micro}
