"""Dots stand where their values are."""

from __future__ import annotations

import re

from launcher.track.scatter import Dot, scatter


def across(*values: str) -> list[float]:
    drawn = scatter([Dot(across=value, up=1.0, label="<b>") for value in values], "optim.lr")
    assert "<b>" not in drawn
    return [float(x) for x in re.findall(r'cx="([\d.]+)"', drawn)]


def test_numbers_over_several_powers_of_ten_are_evenly_apart() -> None:
    low, middle, high = across("1e-5", "1e-4", "1e-3")
    assert middle - low == high - middle > 0


def test_near_numbers_stand_by_their_size_and_words_side_by_side() -> None:
    low, middle, high = across("1", "2", "5")
    assert abs((high - middle) - 3 * (middle - low)) < 1
    low, middle, high = across("adamw", "lion", "sgd")
    assert middle - low == high - middle > 0


def test_nothing_is_drawn_of_nothing() -> None:
    assert scatter([], "optim.lr") == ""


def test_names_that_would_overlap_are_left_out_and_their_dots_stay() -> None:
    close = [Dot(across=value, up=1.0, label="") for value in ("0.001", "0.00101", "0.9")]
    drawn = scatter(close, "optim.lr")
    assert drawn.count("<circle") == 3
    assert [name in drawn for name in (">0.001<", ">0.00101<", ">0.9<")] == [True, False, True]
