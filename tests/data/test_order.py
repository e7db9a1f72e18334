"""The order of samples: an exact shuffle, the same for every number of ranks and after every resume."""

from __future__ import annotations

import tracemalloc
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.data.feed.batches import Layout, micro_batches
from launcher.data.feed.mixture import Mixture
from launcher.data.feed.order import Int64Array, Order, epoch_key, permute
from launcher.data.feed.samples import Samples

GOLDEN_FIRST = [419, 558, 436, 99, 71, 178, 451, 93]
GOLDEN_LATE = [145, 673, 396, 419]
GOLDEN_MIXED = [124, 876, 132, 583, 975, 128, 424, 108, 636, 450]
GOLDEN_MIXED_LATE = [391, 677, 495, 230]
EDGES = [1, 2, 3, 4, 5, *(2**k + d for k in range(3, 13) for d in (-1, 0, 1))]


class OneTokenRows:
    """Samples of one row of one token, the sample's number."""

    packed = False
    each = 1
    reference = None
    mismatched = False
    largest = None

    @property
    def store(self) -> OneTokenRows:
        return self

    def rows(self, sample: int) -> list[int]:
        return [sample]

    def row(self, index: int) -> tuple[Int64Array, Int64Array]:
        return np.array([index]), np.zeros(1, dtype=bool)

    def targets(self, examples: Int64Array) -> npt.NDArray[np.float32]:
        return np.zeros((len(examples), 0), dtype=np.float32)


def stream(*, seed: int, batch: int, rows: int, samples: int) -> Int64Array:
    steps = range(-(-samples // batch))
    order = Order(seed=seed, sizes=(rows,))
    return np.concatenate([order.samples_of_step(step, batch) for step in steps])[:samples]


@pytest.mark.parametrize("n", EDGES)
def test_a_permutation_hits_every_place_once_at_sizes_around_powers_of_two(n: int) -> None:
    assert sorted(permute(np.arange(n), n, key=n)) == list(range(n))


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 5000), key=st.integers(0, 2**64 - 1))
def test_a_permutation_hits_every_place_once(n: int, key: int) -> None:
    assert sorted(permute(np.arange(n), n, key)) == list(range(n))


@settings(deadline=None, max_examples=40)
@given(n=st.integers(2**40, 2**60), key=st.integers(0, 2**64 - 1))
def test_huge_sets_need_no_memory_and_stay_in_range(n: int, key: int) -> None:
    places = permute(np.arange(n - 1000, n), n, key)
    assert len(set(places.tolist())) == 1000
    assert places.min() >= 0
    assert places.max() < n


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 300), batch=st.integers(1, 70), seed=st.integers(0, 2**31), epochs=st.integers(1, 4))
def test_every_row_comes_once_per_epoch_whatever_the_batch(rows: int, batch: int, seed: int, epochs: int) -> None:
    seen = stream(seed=seed, batch=batch, rows=rows, samples=rows * epochs).reshape(epochs, rows)
    assert np.array_equal(np.sort(seen, axis=1), np.tile(np.arange(rows), (epochs, 1)))


def test_the_stream_does_not_depend_on_how_it_is_cut_into_steps() -> None:
    small = stream(seed=3, batch=4, rows=50, samples=200)
    assert np.array_equal(small, stream(seed=3, batch=32, rows=50, samples=200))
    assert np.array_equal(small, stream(seed=3, batch=200, rows=50, samples=200))


def test_a_batch_that_straddles_epochs_ends_one_and_begins_the_next() -> None:
    batch = Order(seed=7, sizes=(10,)).samples_of_step(1, 6)
    places = np.arange(10)
    assert np.array_equal(batch[:4], permute(places[6:], 10, epoch_key(7, 0)))
    assert np.array_equal(batch[4:], permute(places[:2], 10, epoch_key(7, 1)))


def test_a_batch_may_be_larger_than_the_data_set() -> None:
    batch = Order(seed=0, sizes=(3,)).samples_of_step(0, 9)
    assert np.bincount(batch).tolist() == [3, 3, 3]


def test_seeds_and_epochs_give_unrelated_orders() -> None:
    orders = [permute(np.arange(1000), 1000, epoch_key(seed, epoch)) for seed in range(4) for epoch in range(4)]
    agreements = [int((a == b).sum()) for i, a in enumerate(orders) for b in orders[:i]]
    assert max(agreements) < 12  # one in a thousand agrees by chance


@pytest.mark.parametrize("n", [3, 8, 10])
def test_each_row_is_first_about_equally_often(n: int) -> None:
    trials = 200 * n
    firsts = np.bincount([int(permute(np.zeros(1, np.int64), n, epoch_key(s, 0))[0]) for s in range(trials)])
    assert len(firsts) == n
    assert firsts.min() > 130
    assert firsts.max() < 270


def test_neighbouring_rows_do_not_stay_neighbours() -> None:
    places = permute(np.arange(100_000), 100_000, key=1)
    assert (np.abs(np.diff(places)) == 1).mean() < 0.001
    assert abs(float(np.corrcoef(np.arange(100_000), places)[0, 1])) < 0.02


def test_the_order_is_what_it_was_in_earlier_releases() -> None:
    """A run that resumes under a newer release must go on with the same samples; do not mend these numbers."""
    order = Order(seed=1234, sizes=(1000,))
    assert order.samples_of_step(0, 8).tolist() == GOLDEN_FIRST
    assert order.samples_of_step(10**6, 4).tolist() == GOLDEN_LATE
    mixed = Order(seed=1234, sizes=(600, 300, 100), mixture=Mixture.by_weight([0.7, 0.2, 0.1]))
    assert mixed.samples_of_step(0, 10).tolist() == GOLDEN_MIXED
    assert mixed.samples_of_step(10**6, 4).tolist() == GOLDEN_MIXED_LATE


def test_sources_without_a_mixture_are_shuffled_together() -> None:
    apart, together = Order(seed=5, sizes=(400, 600)), Order(seed=5, sizes=(1000,))
    assert np.array_equal(apart.samples_of_step(3, 128), together.samples_of_step(3, 128))


@settings(deadline=None, max_examples=30)
@given(
    sources=st.lists(st.tuples(st.integers(1, 60), st.floats(0.05, 1)), min_size=1, max_size=5),
    batch=st.integers(1, 70),
    seed=st.integers(0, 2**31),
)
def test_each_source_of_a_mixture_comes_to_its_end_before_any_of_it_comes_again(
    sources: list[tuple[int, float]], batch: int, seed: int
) -> None:
    sizes = tuple(size for size, _ in sources)
    order = Order(seed=seed, sizes=sizes, mixture=Mixture.by_weight([weight for _, weight in sources]))
    seen = np.concatenate([order.samples_of_step(step, batch) for step in range(-(-600 // batch))])
    starts = np.cumsum([0, *sizes])
    for start, size in zip(starts, sizes, strict=False):
        mine = seen[(seen >= start) & (seen < start + size)] - start
        epochs = mine[: len(mine) // size * size].reshape(-1, size)
        assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (len(epochs), 1)))
        assert len(set(mine[len(epochs) * size :].tolist())) == len(mine) - epochs.size


def test_sources_of_one_size_come_in_unrelated_orders() -> None:
    order = Order(seed=1, sizes=(1000, 1000), mixture=Mixture.by_weight([1, 1]))
    seen = order.samples_of_step(0, 2000)
    first, second = seen[seen < 1000], seen[seen >= 1000] - 1000
    assert (first == second).sum() < 12


def test_a_jump_to_step_a_million_finds_what_a_walk_would() -> None:
    """Turns of 7, 2 and 1 in ten repeat, so whose turn it is a million steps on follows from the first ten."""
    sizes, parts, batch, step = (7001, 503, 11), np.array([7, 2, 1]), 64, 10**6
    order = Order(seed=3, sizes=sizes, mixture=Mixture.by_count(parts.tolist()))
    first_ten = np.searchsorted(np.cumsum(sizes), order.samples_of_step(0, 10), side="right")
    assert np.bincount(first_ten).tolist() == parts.tolist()
    starts, expected = np.cumsum([0, *sizes]), []
    for place in range(step * batch, (step + 1) * batch):
        source = int(first_ten[place % 10])
        turn = place // 10 * int(parts[source]) + int((first_ten[: place % 10] == source).sum())
        key = epoch_key(3 + (source + 1) * 0x9E3779B97F4A7C15, turn // sizes[source])
        inside = permute(np.array([turn % sizes[source]]), sizes[source], key)
        expected.append(int(starts[source] + inside[0]))
    assert order.samples_of_step(step, batch).tolist() == expected


def test_ten_million_samples_take_no_memory_at_the_first_step_nor_at_the_millionth() -> None:
    sizes = (7_000_000, 2_000_000, 1_000_000)
    for mixture in (None, Mixture.by_weight([0.7, 0.2, 0.1])):
        tracemalloc.start()
        order = Order(seed=0, sizes=sizes, mixture=mixture)
        for step in (0, 10**6):
            order.samples_of_step(step, 512)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000  # an index of ten million would take 80


def test_an_epoch_is_what_the_sources_have_or_what_was_counted() -> None:
    assert Order(seed=0, sizes=(5, 6)).epoch_size == 11
    assert Order(seed=0, sizes=(5, 6), mixture=Mixture.by_weight([1, 9])).epoch_size == 11
    assert Order(seed=0, sizes=(5, 6), mixture=Mixture.by_count([30, 4])).epoch_size == 34


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    counted=st.booleans(),
    accumulation=st.integers(1, 2),
    step=st.integers(0, 10**7),
)
def test_all_numbers_of_ranks_see_the_same_samples_and_no_rank_another_ones(
    sizes: list[int], counted: bool, accumulation: int, step: int
) -> None:
    mixture = Mixture.by_count([1 + size // 2 for size in sizes]) if counted else None
    chosen = Order(seed=9, sizes=tuple(sizes), mixture=mixture).samples_of_step(step, 24 * accumulation)
    samples = cast("Samples", OneTokenRows())
    for ranks in (1, 2, 3, 4, 8):
        layout = Layout(micro_batch_size=24 // ranks, pad_id=0, flat=False)
        cuts = [
            micro_batches(samples, layout, chosen=chosen, rank=rank, data_parallel_size=ranks) for rank in range(ranks)
        ]
        # Micro batch after micro batch, rank after rank: the one global order.
        fed = [sample for part in zip(*cuts, strict=True) for batch in part for sample in batch.samples]
        assert fed == chosen.tolist()
        places = [[batch.input_ids[:, 0].tolist() for batch in cut] for cut in cuts]
        assert [len(cut) for cut in places] == [accumulation] * ranks
