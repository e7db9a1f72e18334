"""Steps that count, steps that were lost, and the time that both cost."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from launcher.config.survival import Action
from launcher.failures import FailureClass
from launcher.publish import read_records
from launcher.runs.events import Event
from launcher.runs.history import allocated_s, goodput, history
from launcher.runs.interval import suggested_interval, unplanned
from launcher.runs.outcome import Ending
from tests.fakes import MadeRun

AGAIN = Action.requeue


def test_goodput_is_the_time_in_steps_that_count_over_the_time_allocated(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps(range(1, 11), step_time_s=2.0)
    made.end(Ending.completed, after_s=40)
    assert goodput(history(made.run, active=False)) == 0.5


def test_a_step_that_was_done_twice_counts_once(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps(range(1, 9), step_time_s=4.0)
    made.end(Ending.failed, action=AGAIN, after_s=40)
    made.begin(step=5)
    made.steps(range(6, 11), step_time_s=1.0)
    made.end(Ending.completed, after_s=10)
    passages = history(made.run, active=False)
    assert [(passage.kept, passage.lost) for passage in passages] == [(5, 3), (5, 0)]
    assert goodput(passages) == pytest.approx((5 * 4 + 5 * 1) / 50)


def test_time_in_the_queue_is_not_allocated(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(Ending.stopped, action=AGAIN, after_s=10)
    made.started += 1000
    made.begin(step=0)
    made.end(Ending.stopped, action=AGAIN, after_s=20)
    assert allocated_s(history(made.run, active=False)) == 30


def test_an_attempt_that_goes_back_further_undoes_several_before_it(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    for first, last in ((0, 7), (4, 6), (2, 3)):
        made.begin(step=first)
        made.steps(range(first + 1, last + 1))
        made.end(Ending.failed, action=AGAIN)
    assert [(item.kept, item.lost) for item in history(made.run, active=False)] == [(2, 5), (0, 2), (1, 0)]


def test_attempts_that_never_trained_cost_time_and_no_steps(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps(range(1, 5), step_time_s=10.0)
    made.end(Ending.failed, action=AGAIN, after_s=40)
    made.begin()
    made.end(Ending.failed, action=AGAIN, after_s=40)
    passages = history(made.run, active=False)
    assert (passages[1].first, passages[1].kept, passages[1].lost) == (None, 0, 0)
    assert goodput(passages) == 0.5


def test_steps_that_a_rollback_did_again_are_lost(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps([1, 2, 3, 4, 5, 3, 4])
    made.event(Event.rolled_back, step=2, first=3, last=5, reason="loss", file="f")
    (passage,) = history(made.run, active=True)
    assert (passage.kept, passage.lost) == (4, 3)


def test_the_attempt_that_runs_is_counted_up_to_now(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    (passage,) = history(made.run, active=True)
    assert passage.ended is None
    assert passage.allocated_s(made.started + 70) == 70


def test_an_attempt_that_nobody_closed_lasted_until_it_last_wrote(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    folder = made.run.attempt(made.begin(step=0))
    for file in folder.root.iterdir():
        os.utime(file, (0, made.started + 30))
    made.started += 60
    made.begin(step=0)
    first, second = history(made.run, active=True)
    assert first.allocated_s(time.time()) == pytest.approx(30, abs=0.01)
    assert second.ended is None


def test_a_run_that_has_done_no_step_has_no_goodput(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    assert goodput(history(made.run, active=True)) is None


def suggestion(made: MadeRun) -> int | None:
    return suggested_interval(history(made.run, active=False), read_records(made.run.events))


def failing(root: Path, *, seconds: float, stalled_s: float, failure: FailureClass) -> MadeRun:
    """1000 s over two attempts, of which the first failed; 0.5 s a step."""
    made = MadeRun(root)
    made.begin(step=0)
    made.steps([1, 2], step_time_s=0.5)
    made.checkpoint(2, seconds=seconds, stalled_s=stalled_s)
    made.end(Ending.failed, failure=failure, action=AGAIN, after_s=400)
    made.begin(step=2)
    made.steps([3], step_time_s=0.5)
    made.end(Ending.completed, after_s=600)
    return made


def test_the_interval_is_youngs(tmp_path: Path) -> None:
    made = failing(tmp_path, seconds=8, stalled_s=8, failure=FailureClass.node_failure)
    assert suggestion(made) == round((2 * 1000 * 8) ** 0.5 / 0.5)


def test_a_checkpoint_must_be_written_before_the_next_one_begins(tmp_path: Path) -> None:
    made = failing(tmp_path, seconds=200, stalled_s=0.01, failure=FailureClass.lost_process)
    assert suggestion(made) == 400


@pytest.mark.parametrize("failure", [FailureClass.time_limit, FailureClass.out_of_memory, FailureClass.user_error])
def test_what_was_foreseen_says_nothing_of_how_often_things_fail(tmp_path: Path, failure: FailureClass) -> None:
    assert suggestion(failing(tmp_path, seconds=8, stalled_s=8, failure=failure)) is None


def test_a_stop_that_left_a_checkpoint_is_no_failure(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(Ending.stopped, failure=FailureClass.preempted, action=AGAIN)
    assert unplanned(history(made.run, active=False)) == 0
