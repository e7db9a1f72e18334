"""What a sampler is told of members that ended well, badly, or not yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cluster.protocol import QueueState
from launcher.errors import NotFoundError
from launcher.failures import FailureClass
from launcher.publish import append_record
from launcher.runs.events import Event
from launcher.runs.job import write_cancel_request
from launcher.runs.members import Member
from launcher.runs.outcome import Ending
from launcher.runs.tried import History, history
from tests.fakes import FakeQueue, MadeRun, slurm_job


def known(root: Path, *names: str, metric: str = "eval_loss", queue: QueueState = QueueState.gone) -> History:
    members = [Member(run_id=name, overrides=[f"optim.lr={name}"]) for name in names]
    return history(members, root, metric, FakeQueue(queue).state)


def made(root: Path, name: str, *losses: float) -> MadeRun:
    run = MadeRun(root, name)
    run.begin(step=0)
    for step, loss in enumerate(losses, 1):
        run.evaluation(step, loss)
    return run


def test_members_count_with_the_best_that_they_measured(tmp_path: Path) -> None:
    made(tmp_path, "a", 3.0, 2.0, 2.5).end(Ending.completed)
    made(tmp_path, "b").end(Ending.completed)
    found = known(tmp_path, "a", "b", "gone")
    assert [(one.overrides, one.cost, one.active) for one in found.tried] == [
        (["optim.lr=a"], 2.0, False),
        (["optim.lr=b"], None, False),
        (["optim.lr=gone"], None, False),
    ]
    assert str(found) == "1 measured, 0 under way, 2 that tell nothing"


def test_of_accuracies_more_is_less(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    append_record(run.run.metrics, {"step": 1, "eval_loss": 1.0, "eval_accuracy": 0.75, "attempt": 1})
    run.end(Ending.completed)
    assert known(tmp_path, "a", metric="eval_accuracy").tried[0].cost == -0.75


def test_what_runs_tells_that_it_runs_and_which_job_carries_it(tmp_path: Path) -> None:
    made(tmp_path, "a", 2.0)
    made(tmp_path, "b", 3.0).end(Ending.completed)
    found = known(tmp_path, "a", "b", queue=QueueState.running)
    assert [(one.cost, one.active) for one in found.tried] == [(None, True), (3.0, False)]
    assert [job.job_id for job in found.jobs] == ["42"]


def test_a_loss_that_ran_away_is_as_bad_as_the_worst_and_other_failures_tell_nothing(tmp_path: Path) -> None:
    made(tmp_path, "good", 2.0).end(Ending.completed)
    made(tmp_path, "bad", 7.0).end(Ending.completed)
    made(tmp_path, "wild", 1.0).end(Ending.failed, failure=FailureClass.not_a_number)
    made(tmp_path, "full", 1.5).end(Ending.failed, failure=FailureClass.disk_full)
    assert [one.cost for one in known(tmp_path, "good", "bad", "wild", "full").tried] == [2, 7, 7, None]
    # Where nothing else is known, there is no worst.
    assert [one.cost for one in known(tmp_path, "wild").tried] == [None]


def test_one_that_was_cancelled_counts_with_what_it_measured(tmp_path: Path) -> None:
    run = made(tmp_path, "a", 4.0)
    write_cancel_request(run.run, slurm_job("42", 1))
    run.event(Event.cancel_requested)
    run.end(Ending.stopped)
    assert known(tmp_path, "a").tried[0].cost == 4.0


def test_a_measure_that_no_step_has_is_not_found(tmp_path: Path) -> None:
    run = made(tmp_path, "a")
    run.steps([1, 2])
    run.end(Ending.completed)
    assert known(tmp_path, "a", metric="loss").tried[0].cost == 4.8
    with pytest.raises(NotFoundError, match="grad_norm"):
        known(tmp_path, "a", metric="los")
