"""Whose turn it is: shares that hold in every stretch of the stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.data.feed.mixture import Mixture

WINDOW = 1000


def windows(mixture: Mixture, start: int, length: int = 3 * WINDOW) -> np.ndarray:
    """How many turns each source has in every window that lies in the stretch: [windows, sources]."""
    sources, _ = mixture.turns(np.arange(start, start + length))
    before = np.cumsum(np.eye(len(mixture.parts), dtype=np.int64)[sources], axis=0)
    before = np.concatenate([np.zeros((1, before.shape[1]), np.int64), before])
    return before[WINDOW:] - before[:-WINDOW]


@pytest.mark.parametrize("start", [0, 123_456_789, 10**12 + 7])
def test_shares_of_07_02_and_01_hold_within_half_a_percent_in_every_window(start: int) -> None:
    held = windows(Mixture.by_weight([0.7, 0.2, 0.1]), start)
    assert np.abs(held - [700, 200, 100]).max() <= 1


@settings(deadline=None, max_examples=50)
@given(weights=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=40), start=st.integers(0, 10**12))
def test_any_shares_hold_within_half_a_percent_in_every_window(weights: list[float], start: int) -> None:
    held = windows(Mixture.by_weight(weights), start, 2 * WINDOW)
    assert np.abs(held - WINDOW * np.array(weights) / sum(weights)).max() < 4


@pytest.mark.parametrize("counts", [[1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233], [1000, *[1] * 40]])
def test_shares_hold_where_roundings_could_add_up(counts: list[int]) -> None:
    held = windows(Mixture.by_count(counts), 0)
    assert np.abs(held - WINDOW * np.array(counts) / sum(counts)).max() < 4


@settings(deadline=None, max_examples=50)
@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=8), epoch=st.integers(0, 10**9))
def test_an_epoch_holds_exactly_what_was_counted(counts: list[int], epoch: int) -> None:
    mixture = Mixture.by_count(counts)
    size = sum(counts)
    assert mixture.epoch_size == size
    sources, turns = mixture.turns(np.arange(epoch * size, (epoch + 1) * size))
    assert np.bincount(sources, minlength=len(counts)).tolist() == counts
    for source, count in enumerate(counts):
        assert turns[sources == source].tolist() == list(range(epoch * count, (epoch + 1) * count))


def test_a_weight_however_small_has_its_turns() -> None:
    mixture = Mixture.by_weight([1.0, 1e-12])
    assert mixture.parts == (10**9, 1)
    sources, turns = mixture.turns(np.arange(10**9 // 2 - 5, 10**9 // 2 + 5))
    assert sources.sum() == 1
    assert turns[sources == 1].tolist() == [0]


def test_counts_of_more_than_64_bits_can_hold_keep_their_proportions() -> None:
    mixture = Mixture.by_count([30_000_000_000, 10_000_000_000])
    assert mixture.epoch_size == 40_000_000_000
    held = windows(mixture, 10**13)
    assert np.abs(held - [750, 250]).max() <= 1


def test_where_the_turns_begin_does_not_change_them() -> None:
    mixture = Mixture.by_weight([3, 1, 1, 0.37])
    whole = mixture.turns(np.arange(10_000))
    part = mixture.turns(np.arange(4_321, 4_400))
    assert all(np.array_equal(a[4_321:4_400], b) for a, b in zip(whole, part, strict=True))
