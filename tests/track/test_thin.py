"""Few points are left of many, and no high and no low is lost."""

from __future__ import annotations

import random

from launcher.track.thin import MOST_BUCKETS, Thin


def test_few_points_are_left_as_they_are() -> None:
    line, points = Thin(), [(step, float(step % 7)) for step in range(0, 400, 3)]
    for point in points:
        line.add(*point)
    assert line.points() == points


def test_of_many_points_every_peak_is_left() -> None:
    dice, line = random.Random(1), Thin()
    values = {step: dice.random() for step in range(1, 100_001)}
    values[77_777], values[12_345] = 50.0, -50.0
    for step, value in values.items():
        line.add(step, value)
    points = line.points()
    assert MOST_BUCKETS // 4 < len(points) <= 2 * MOST_BUCKETS
    assert points == sorted(points)
    assert (77_777, 50.0) in points
    assert (12_345, -50.0) in points
    assert all(values[step] == value for step, value in points)


def test_steps_that_were_done_again_are_replaced() -> None:
    for most in (MOST_BUCKETS, 8):
        line = Thin(most)
        for step in range(1, 61):
            line.add(step, 100.0 if step > 40 else 1.0)
        for step in range(41, 101):
            line.add(step, 2.0)
        points = line.points()
        assert all(value == (1.0 if step <= 40 else 2.0) for step, value in points)
        assert points[-1] == (100, 2.0) or most == 8
