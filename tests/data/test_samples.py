"""What the order counts: rows, or packs of rows."""

from __future__ import annotations

import numpy as np
import pytest

from launcher.data.feed.samples import Samples
from launcher.data.tokens import TokenStore
from tests.data.conftest import MakeStore, Row


def row(token: int, length: int) -> Row:
    return [token] * length, [False] + [place % 2 == 0 for place in range(1, length)]


@pytest.fixture
def store(make_store: MakeStore) -> TokenStore:
    """Two sources, of 9 and of 5 rows, packed to 10 tokens."""
    return make_store([row(i, 1 + i) for i in range(9)], [row(i, 10 - i) for i in range(5)], seq_len=10)


def test_rows_are_their_own_samples(store: TokenStore) -> None:
    samples = Samples(store, packed=False)
    assert (len(samples), samples.sizes) == (14, (9, 5))
    assert samples.rows(13) == [13]
    assert samples.lengths(np.array([3, 0])).tolist() == [4, 1]


def test_packs_hold_every_row_once_and_none_of_another_source(store: TokenStore) -> None:
    samples = Samples(store, packed=True)
    assert sum(samples.sizes) == len(samples) == store.packs
    held = [samples.rows(sample) for sample in range(len(samples))]
    first = samples.sizes[0]
    assert sorted(row for rows in held[:first] for row in rows) == list(range(9))
    assert sorted(row for rows in held[first:] for row in rows) == list(range(9, 14))
    assert max(map(len, held)) > 1


@pytest.mark.parametrize("packed", [False, True])
def test_counts_of_many_samples_are_those_of_their_rows(store: TokenStore, packed: bool) -> None:
    samples = Samples(store, packed=packed)
    chosen = np.array([*range(len(samples) - 1, -1, -1), 0, 0, 2])
    rows = [samples.rows(int(sample)) for sample in chosen]
    assert samples.lengths(chosen).tolist() == [sum(len(store.row(i)[0]) for i in part) for part in rows]
    assert samples.trained_counts(chosen).tolist() == [sum(int(store.row(i)[1].sum()) for i in part) for part in rows]
    assert samples.lengths(chosen[:0]).tolist() == []
