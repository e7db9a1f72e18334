"""Learning rates at the points that people check."""

from __future__ import annotations

import pytest

from launcher.config.schema import ScheduleConfig, ScheduleName
from launcher.train.schedule import learning_rate


def schedule(name: ScheduleName, warmup: float = 0.1, floor: float = 0.1, decay: float = 0.2) -> ScheduleConfig:
    return ScheduleConfig(name=name, warmup_ratio=warmup, min_ratio=floor, decay_ratio=decay)


@pytest.mark.parametrize("name", list(ScheduleName))
def test_warm_up_is_linear_never_zero_and_ends_at_the_peak(name: ScheduleName) -> None:
    rates = [learning_rate(schedule(name), 1.0, step, 100) for step in range(10)]
    assert rates == pytest.approx([0.1 * (step + 1) for step in range(10)])


@pytest.mark.parametrize(
    ("name", "middle", "end"),
    [
        (ScheduleName.constant, 1.0, 1.0),
        (ScheduleName.linear, 0.55, 0.1),
        (ScheduleName.cosine, 0.55, 0.1),
        (ScheduleName.wsd, 1.0, 0.1),
    ],
)
def test_shape_between_warm_up_and_end(name: ScheduleName, middle: float, end: float) -> None:
    shape = schedule(name, warmup=0.0)
    assert learning_rate(shape, 1.0, 50, 101) == pytest.approx(middle)
    assert learning_rate(shape, 1.0, 100, 101) == pytest.approx(end)


def test_wsd_falls_in_a_straight_line_over_its_last_part() -> None:
    rates = [learning_rate(schedule(ScheduleName.wsd, 0.0, 0.0), 1.0, step, 101) for step in (79, 80, 90, 100)]
    assert rates == pytest.approx([1.0, 1.0, 0.5, 0.0])


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("name", list(ScheduleName))
def test_the_shortest_runs_have_finite_positive_rates(name: ScheduleName, total: int) -> None:
    rates = [learning_rate(schedule(name), 1.0, step, total) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)
