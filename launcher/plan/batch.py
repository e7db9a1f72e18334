"""Batch arithmetic: global batch = micro batch × accumulation × data-parallel size. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

from launcher.config.ranges import AUTO
from launcher.errors import Problem
from launcher.runplan import Batch


def plan_batch(
    global_size: int, micro: int | str, data_parallel_size: int, choose: Callable[[list[int]], tuple[int, str]]
) -> Batch | Problem:
    """Cut the global batch over ranks; with `auto`, `choose` takes one of the micro batches there are, and says why."""
    if global_size % data_parallel_size:
        below = global_size // data_parallel_size * data_parallel_size
        return _impossible(
            global_size,
            f"does not divide over {data_parallel_size} ranks",
            [size for size in (below, below + data_parallel_size) if size > 0],
        )
    per_rank = global_size // data_parallel_size
    if micro == AUTO:
        chosen, why = choose(_divisors(per_rank))
        return _batch(global_size, chosen, data_parallel_size, f"auto: {why}")
    assert isinstance(micro, int), "validation lets only `auto` and numbers through"
    if per_rank % micro:
        unit = micro * data_parallel_size
        below = global_size // unit * unit
        sizes = [size for size in (below, below + unit) if size > 0]
        divisors = _divisors(per_rank)
        near = [max(size for size in divisors if size < micro)]
        near += [size for size in divisors if size > micro][:1]
        problem = _impossible(
            global_size, f"is not a multiple of micro batch {micro} × {data_parallel_size} ranks = {unit}", sizes
        )
        return Problem(
            where=problem.where,
            message=problem.message,
            valid=problem.valid,
            remedy=f"{problem.remedy}, or train.micro_batch_size={' or '.join(str(size) for size in near)}",
        )
    return _batch(global_size, micro, data_parallel_size, "as set")


def _divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    small = [size for size in range(1, math.isqrt(number) + 1) if number % size == 0]
    return sorted({*small, *(number // size for size in small)})


def _batch(global_size: int, micro: int, data_parallel_size: int, chosen: str) -> Batch:
    return Batch(
        global_batch_size=global_size,
        micro_batch_size=micro,
        accumulation=global_size // (micro * data_parallel_size),
        data_parallel_size=data_parallel_size,
        chosen=chosen,
    )


def _impossible(global_size: int, why: str, nearest: list[int]) -> Problem:
    sizes = " or ".join(str(size) for size in sorted(nearest, key=lambda size: abs(size - global_size)))
    return Problem(
        where="train.global_batch_size",
        message=f"{global_size} {why}",
        valid=sizes,
        remedy=f"write train.global_batch_size={sizes}",
    )
