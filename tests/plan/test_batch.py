from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import Problem
from launcher.plan.batch import plan_batch
from launcher.runplan import Batch

SIZES = st.integers(min_value=1, max_value=4096)
RANKS = st.integers(min_value=1, max_value=128)


def largest(sizes: list[int]) -> tuple[int, str]:
    return max(sizes), "the largest"


def suggested(problem: Problem, key: str) -> list[int]:
    """The numbers that a remedy tells a person to type for `key`."""
    match = re.search(rf"{re.escape(key)}=(\d+)(?: or (\d+))?", problem.remedy)
    assert match is not None, problem.remedy
    return [int(number) for number in match.groups() if number]


@given(size=SIZES, micro=st.integers(1, 64), ranks=RANKS)
def test_a_batch_is_micro_times_accumulation_times_ranks_or_refused(size: int, micro: int, ranks: int) -> None:
    batch = plan_batch(size, micro, ranks, largest)
    assert isinstance(batch, Batch) == (size % (micro * ranks) == 0)
    if isinstance(batch, Batch):
        assert batch.micro_batch_size == micro
        assert batch.micro_batch_size * batch.accumulation * batch.data_parallel_size == size


@given(size=SIZES, micro=st.integers(1, 64), ranks=RANKS)
def test_every_size_that_a_refusal_suggests_is_accepted_and_near(size: int, micro: int, ranks: int) -> None:
    problem = plan_batch(size, micro, ranks, largest)
    if isinstance(problem, Batch):
        return
    sizes = suggested(problem, "train.global_batch_size")
    unit = ranks if size % ranks else micro * ranks
    assert all(abs(other - size) < unit for other in sizes)
    assert [isinstance(plan_batch(other, "auto", ranks, largest), Batch) for other in sizes] == [True] * len(sizes)
    if "train.micro_batch_size" in problem.remedy:
        for other in suggested(problem, "train.micro_batch_size"):
            assert isinstance(plan_batch(size, other, ranks, largest), Batch)


@given(per_rank=st.integers(1, 256), ranks=RANKS)
def test_auto_chooses_among_all_divisors_and_says_why(per_rank: int, ranks: int) -> None:
    shown: list[int] = []

    def choose(sizes: list[int]) -> tuple[int, str]:
        shown.extend(sizes)
        return sizes[len(sizes) // 2], "the middle one"

    batch = plan_batch(per_rank * ranks, "auto", ranks, choose)
    assert isinstance(batch, Batch)
    assert shown == [size for size in range(1, per_rank + 1) if per_rank % size == 0]
    assert (batch.micro_batch_size, batch.chosen) == (shown[len(shown) // 2], "auto: the middle one")


def test_the_nearest_batch_sizes_are_named() -> None:
    problem = plan_batch(7, "auto", 2, largest)
    assert isinstance(problem, Problem)
    assert problem.valid == "6 or 8"
