"""Numbers that go wrong are seen, and data that was skipped stays skipped."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config.survival import Guard, GuardConfig
from launcher.train.guard import LossGuard
from launcher.train.skips import Skip, data_step

CONFIG = GuardConfig(not_a_number=Guard.rollback, spike=Guard.warn, spike_factor=2.0, spike_window=4, max_rollbacks=3)


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_not_a_number_is_seen_in_loss_and_norm(loss: float, norm: float) -> None:
    assert LossGuard(CONFIG, []).judge(loss, norm)[0] is Guard.rollback
    assert LossGuard(replace(CONFIG, not_a_number=Guard.off), []).judge(loss, norm)[0] is Guard.off


@pytest.mark.parametrize("norm", [math.inf, math.nan, -1.0])
def test_a_gradient_that_overflows_is_the_loss_scalers_business(norm: float) -> None:
    assert LossGuard(CONFIG, [], scaled=True).judge(1.0, norm)[0] is Guard.off
    assert LossGuard(CONFIG, [], scaled=True).judge(math.nan, norm)[0] is Guard.rollback


def test_a_norm_that_nobody_knows_is_not_judged() -> None:
    assert LossGuard(CONFIG, []).judge(1.0, None)[0] is Guard.off


def test_a_jump_is_judged_by_a_full_window_only() -> None:
    guard = LossGuard(CONFIG, [1.0, 1.0])
    assert guard.judge(5.0, 1.0)[0] is Guard.off
    guard = LossGuard(CONFIG, [1.0, 1.0, 1.0, 1.0])
    assert guard.judge(1.9, 1.0)[0] is Guard.off
    verdict, why = guard.judge(5.0, 1.0)
    assert verdict is Guard.warn
    assert "jumped to 5" in why


@given(st.lists(st.floats(0.1, 100), min_size=12, max_size=30))
def test_a_resumed_run_judges_as_one_that_never_stopped(losses: list[float]) -> None:
    straight = LossGuard(CONFIG, [])
    verdicts = [straight.judge(loss, None)[0] for loss in losses]
    half = len(losses) // 2
    resumed = LossGuard(CONFIG, losses[:half][-CONFIG.spike_window :])
    assert [resumed.judge(loss, None)[0] for loss in losses[half:]] == verdicts[half:]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=5))
def test_no_data_step_comes_twice_whatever_was_skipped(windows: list[tuple[int, int]]) -> None:
    skips = [Skip(step=step, count=count, reason="") for step, count in sorted(windows)]
    fed = [data_step(step, skips) for step in range(60)]
    assert len(set(fed)) == len(fed)
    assert fed == sorted(fed)
    assert fed[-1] == 59 + sum(count for _, count in windows)
