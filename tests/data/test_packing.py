"""Packing: every row once, whole, and hardly a token of padding."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from launcher.data.feed.packing import pack


@given(st.lists(st.integers(1, 50), max_size=200))
def test_every_row_is_packed_once_and_no_pack_is_too_long(lengths: list[int]) -> None:
    rows, offsets = pack(np.array(lengths, dtype=np.int64), 50)
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    packs = [rows[start:end].tolist() for start, end in itertools.pairwise(offsets)]
    assert all(packs)
    assert all(sum(lengths[row] for row in members) <= 50 for members in packs)
    assert all(members == sorted(members) for members in packs)
    assert [members[0] for members in packs] == sorted(members[0] for members in packs)


def test_rows_that_complement_each_other_fill_their_packs() -> None:
    _, offsets = pack(np.array([60, 10, 40, 90, 30, 70], dtype=np.int64), 100)
    assert len(offsets) - 1 == 3


def test_lengths_as_they_occur_fill_more_than_995_thousandths() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(5.3, 0.6, 20_000), 1, 2048).astype(np.int64)
    _, offsets = pack(lengths, 2048)
    assert lengths.sum() / (2048 * (len(offsets) - 1)) > 0.995
