"""Prompts with the answers of others, as batches hold them."""

from __future__ import annotations

import numpy as np
import pytest

from launcher.data.feed.batches import IGNORED, Layout, eval_batches, micro_batches
from launcher.data.feed.mismatched import mismatched_row, other
from launcher.data.feed.samples import Samples
from tests.data.conftest import MakeStore


def rows(count: int) -> list[tuple[list[int], list[bool]]]:
    """Row n is a prompt of 1 + n % 3 tokens, each 100 + n, and an answer of 1 + n % 2, each 200 + n."""
    made = []
    for number in range(count):
        prompt, answer = 1 + number % 3, 1 + number % 2
        made.append(([100 + number] * prompt + [200 + number] * answer, [False] * prompt + [True] * answer))
    return made


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000])
def test_every_answer_goes_to_one_other_prompt(count: int) -> None:
    given = [other(row, count) for row in range(count)]
    assert sorted(given) == list(range(count))
    assert count == 1 or all(row != answer for row, answer in enumerate(given))


def test_a_prompt_keeps_its_tokens_and_gets_the_others_answer(make_store: MakeStore) -> None:
    store = make_store(rows(10))
    for row in range(10):
        ids, trained = mismatched_row(store, row)
        answer = other(row, 10)
        assert ids.tolist() == [100 + row] * (1 + row % 3) + [200 + answer] * (1 + answer % 2)
        assert trained.tolist() == [False] * (1 + row % 3) + [True] * (1 + answer % 2)


def test_no_row_becomes_longer_than_a_row_may_be(make_store: MakeStore) -> None:
    store = make_store([([1] * 5 + [2], [False] * 5 + [True]), ([3, 4, 4, 4, 4, 4], [False] + [True] * 5)], seq_len=6)
    ids, trained = mismatched_row(store, 0)
    assert ids.tolist() == [1, 1, 1, 1, 1, 4]
    assert trained.tolist() == [False] * 5 + [True]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_a_batch_holds_them_row_by_row_with_what_the_untrained_model_says(
    make_store: MakeStore, packed: bool, flat: bool
) -> None:
    store = make_store(rows(20), seq_len=8)
    samples = Samples(store, packed=packed, mismatched=True)
    samples.reference = np.arange(20, dtype=np.float32)
    samples.mismatched_reference = -np.arange(20, dtype=np.float32)
    layout = Layout(micro_batch_size=3, pad_id=0, flat=flat)
    chosen = np.arange(len(samples) // 6 * 6, dtype=np.int64)
    seen = []
    for rank in range(2):
        for batch in micro_batches(samples, layout, chosen=chosen, rank=rank, data_parallel_size=2):
            others = batch.mismatched
            assert others is not None
            assert others.reference is not None
            mine = [row for sample in batch.samples for row in samples.rows(sample)]
            assert others.rows == batch.rows == len(mine)
            assert others.reference.tolist() == [-row for row in mine]
            for number, row in enumerate(mine):
                inside = others.row_ids == number
                ids, trained = mismatched_row(store, row)
                assert others.input_ids[inside].tolist() == ids.tolist()
                assert (others.labels[inside] != IGNORED).tolist() == trained.tolist()
                if others.position_ids is not None:
                    assert others.position_ids[inside].tolist() == list(range(len(ids)))
            seen += mine
    assert len(set(seen)) == len(seen) > 0


def test_a_batch_of_fillers_has_fillers_beside_it(make_store: MakeStore) -> None:
    samples = Samples(make_store(rows(3)), packed=False, mismatched=True)
    layout = Layout(micro_batch_size=2, pad_id=0, flat=False)
    (batch,) = eval_batches(samples, layout, rank=1, data_parallel_size=2, stop=2)
    assert batch.mismatched is not None
    assert batch.mismatched.rows == batch.rows == 0
    assert batch.mismatched.input_ids.shape[0] == 2


def test_nobody_pays_for_what_he_does_not_ask_for(make_store: MakeStore) -> None:
    samples = Samples(make_store(rows(4)), packed=False)
    layout = Layout(micro_batch_size=2, pad_id=0, flat=False)
    assert all(batch.mismatched is None for batch in eval_batches(samples, layout, rank=0, data_parallel_size=1))
