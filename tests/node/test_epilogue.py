"""What the ranks leave behind becomes the attempt's outcome."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.node.epilogue import epilogue
from launcher.node.prologue import begin_attempt
from launcher.publish import publish_json, read_records
from launcher.rundir import RunDir
from launcher.runs.outcome import Ending, Outcome


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path)
    (run.submissions / "0001").mkdir(parents=True)
    return run


def word(run: RunDir, rank: int, state: str, reason: str, time: float = 1.0) -> None:
    document: dict[str, Any] = {"rank": rank, "host": f"n{rank}", "time": time, "state": state, "reason": reason}
    publish_json(run.attempt(1).rank_record(rank), {**document, "step": 7})


def outcome(run: RunDir, exit_code: int) -> Outcome:
    epilogue(run, begin_attempt(run, "12", 0) if not run.attempt_numbers() else 1, "12", exit_code)
    found = Outcome.read(run.attempt(1))
    assert found is not None
    return found


def test_rank_0_tells_of_a_good_end(run: RunDir) -> None:
    begin_attempt(run, "12", 0)
    word(run, 0, "stopped", "told to stop")
    found = outcome(run, 0)
    assert (found.state, found.reason, found.step, found.exit_code) == (Ending.stopped, "told to stop", 7, 0)


def test_the_first_rank_to_fail_is_the_cause_and_is_named_with_its_node(run: RunDir) -> None:
    begin_attempt(run, "12", 0)
    word(run, 3, "failed", "RuntimeError: connection reset", time=9.0)
    word(run, 2, "failed", "OutOfMemoryError: 80 GB", time=5.0)
    found = outcome(run, 1)
    assert (found.state, found.reason) == (Ending.failed, "rank 2 on n2: OutOfMemoryError: 80 GB")


def test_a_rank_that_was_killed_left_no_word_and_the_signal_is_told(run: RunDir) -> None:
    found = outcome(run, 137)
    assert found.state is Ending.failed
    assert "signal 9" in found.reason


def test_a_good_word_of_rank_0_does_not_hide_a_bad_exit_of_another(run: RunDir) -> None:
    begin_attempt(run, "12", 0)
    word(run, 0, "completed", "all steps done")
    assert outcome(run, 139).state is Ending.failed


def test_attempts_are_numbered_in_order_and_belong_to_the_submission(run: RunDir) -> None:
    assert [begin_attempt(run, "12", restarts) for restarts in (0, 1)] == [1, 2]
    events = read_records(run.events)
    assert [(event["attempt"], event["restarts"]) for event in events] == [(1, 0), (2, 1)]
