"""What an attempt leaves behind becomes its outcome, and what follows from it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.config.survival import Action
from launcher.failures import FailureClass
from launcher.node.epilogue import excluded_nodes
from launcher.node.prologue import admit, begin_attempt
from launcher.node.supervisor import Start, batch_output, close
from launcher.publish import read_records
from launcher.rundir import RunDir
from launcher.runs.job import write_cancel_request
from launcher.runs.outcome import Ending, Outcome, RankWord
from tests.fakes import FakeSlurm, planned_run, slurm_job


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return planned_run(tmp_path, "cluster=slurm", "cluster.nodes=2", "cluster.gpus_per_node=1")


def word(
    run: RunDir, start: Start, rank: int, failure: FailureClass | None, reason: str = "so it was", **more: object
) -> None:
    state = Ending.completed if failure is None else Ending.failed
    values = {"rank": rank, "host": f"n{rank + 1}", "pid": 1, "time": 1.0, "state": state, "failure": failure}
    RankWord(**{**values, "reason": reason, "step": 7, **more}).write(run.attempt(start.attempt))  # type: ignore[arg-type]


def begin(run: RunDir, restarts: int = 0) -> Start:
    return begin_attempt(run, "12", restarts, 1)


def says(run: RunDir, text: str) -> None:
    with batch_output(run, 1, "12").open("a") as file:
        file.write(text)


def test_rank_0_tells_of_a_good_end(run: RunDir) -> None:
    start = begin(run)
    for rank in (0, 1):
        word(run, start, rank, None, "all steps done")
    found = close(run, start, 0)
    assert (found.state, found.reason, found.step, found.action) == (
        Ending.completed,
        "all steps done",
        7,
        Action.stop,
    )


def test_a_rank_killed_after_its_good_word_changes_nothing(run: RunDir) -> None:
    start = begin(run)
    for rank in (0, 1):
        word(run, start, rank, None)
    says(run, "srun: error: n2: task 1: Alarm clock\n")
    assert close(run, start, 142).state is Ending.completed


def test_the_rank_that_failed_is_told_with_its_node_and_is_not_started_again_for_want_of_memory(run: RunDir) -> None:
    start = begin(run)
    word(run, start, 0, FailureClass.communication, "RuntimeError: Connection closed by peer", time=0.5)
    word(run, start, 1, FailureClass.out_of_memory, "OutOfMemoryError: 80 GB", time=0.6)
    found = close(run, start, 1)
    assert (found.failure, found.node, found.rank) == (FailureClass.out_of_memory, "n2", 1)
    assert found.action is Action.stop
    assert "micro_batch_size" in found.advice


def test_a_stopped_rank_that_dumps_when_it_is_woken_at_the_end_is_still_the_one(run: RunDir) -> None:
    start = begin(run)
    for rank, moment in ((0, 1000.0), (1, 1005.5)):
        stacks = run.attempt(1).stacks(rank)
        stacks.write_text("phase step\nTimeout (0:00:03)!\n")
        os.utime(stacks, (moment, moment))
    says(run, "srun: error: n1: task 0: Alarm clock\nsrun: error: n2: task 1: Alarm clock\n")
    found = close(run, start, 142)
    assert (found.failure, found.node, found.rank) == (FailureClass.hang, "n2", 1)
    assert "1 of 2 ranks waited too long" in found.reason


def test_only_what_slurm_printed_during_the_attempt_counts(run: RunDir) -> None:
    first = begin(run)
    says(run, "srun: error: n1: task 0: Killed\n")
    assert close(run, first, 137).node == "n1"
    second = begin(run, restarts=1)
    says(run, "srun: error: n2: task 1: Segmentation fault\n")
    assert close(run, second, 139).node == "n2"


def test_of_two_that_close_an_attempt_the_first_one_stands(run: RunDir) -> None:
    start = begin(run)
    says(run, "srun: error: n1: task 0: Killed\n")
    first = close(run, start, 137)
    assert close(run, start, 1, late=True) == first == Outcome.read(run.attempt(1))
    assert [event["event"] for event in read_records(run.events)].count("attempt_ended") == 1


def test_a_later_attempt_closes_one_whose_node_died_with_its_epilogue(run: RunDir) -> None:
    begin(run)
    admit(run, "12", 1, 1)
    found = Outcome.read(run.attempt(1))
    assert found is not None
    assert (found.failure, found.action) == (FailureClass.node_failure, Action.requeue_elsewhere)


def test_three_attempts_without_a_checkpoint_are_the_last_and_slurm_bringing_the_job_back_changes_nothing(
    run: RunDir,
) -> None:
    for restarts in range(3):
        start = begin(run, restarts)
        says(run, "srun: error: n1: task 0: Killed\n")
        found = close(run, start, 137)
    assert found.action is Action.stop
    assert "3 attempts in a row" in found.advice
    with pytest.raises(SystemExit):
        admit(run, "12", 3, 1)
    assert run.attempt_numbers() == [1, 2, 3]


def test_a_cancelled_run_is_not_started_again(run: RunDir) -> None:
    start = begin(run)
    write_cancel_request(run, slurm_job("12", 1))
    for rank in (0, 1):
        word(run, start, rank, FailureClass.preempted, state=Ending.stopped)
    assert close(run, start, 0).action is Action.stop


def test_a_job_of_an_older_submission_leaves(run: RunDir) -> None:
    (run.submissions / "0002").mkdir()
    with pytest.raises(SystemExit):
        admit(run, "12", 0, 1)
    assert run.attempt_numbers() == []


def test_a_node_that_failed_is_excluded_as_long_as_enough_others_remain(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = FakeSlurm(tmp_path)
    monkeypatch.setenv("PATH", str(slurm.bin), prepend=":")
    start = begin(run)
    word(run, start, 1, FailureClass.gpu_error, "CUDA error: uncorrectable ECC error")
    assert close(run, start, 1).action is Action.requeue_elsewhere
    slurm.nodes("n1", "n2", "n3")
    assert excluded_nodes(run) == ["n2"]
    slurm.nodes("n1", "n2")
    assert excluded_nodes(run) == []


def test_the_rank_that_was_stopped_is_named_though_its_alarm_ends_it_once_srun_wakes_it(run: RunDir) -> None:
    start = begin(run)
    stacks = run.attempt(start.attempt).stacks
    stacks(0).write_text("phase step, limit 3 s\nTimeout (0:00:03)!\n")
    stacks(1).write_text("phase step, limit 3 s\n")
    says(run, "srun: error: n1: task 0: Alarm clock\nsrun: error: n2: task 1: Alarm clock\n")
    found = close(run, start, 142)
    assert (found.failure, found.node, found.rank) == (FailureClass.hang, "n2", 1)
