from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cluster.protocol import Job, QueueState
from launcher.errors import ClusterError, Problem, UserError
from launcher.publish import read_records
from launcher.runs.cancel import cancel
from launcher.runs.outcome import Ending
from tests.fakes import FakeQueue, MadeRun


def test_a_running_job_is_told_and_the_run_knows_why(tmp_path: Path) -> None:
    made, queue = MadeRun(tmp_path), FakeQueue(QueueState.running)
    made.begin(step=0)
    assert "writes a checkpoint" in cancel(made.run, queue)
    assert queue.stopped == ["42"]
    assert made.run.cancel_request.is_file()
    assert read_records(made.run.events)[-1]["event"] == "cancel_requested"


def test_a_job_that_waits_is_withdrawn(tmp_path: Path) -> None:
    made, queue = MadeRun(tmp_path), FakeQueue(QueueState.pending)
    assert "withdrawn" in cancel(made.run, queue)
    assert queue.stopped == ["42"]


def test_asking_twice_tells_the_job_twice_and_the_events_once(tmp_path: Path) -> None:
    made, queue = MadeRun(tmp_path), FakeQueue(QueueState.running)
    made.begin(step=0)
    cancel(made.run, queue)
    cancel(made.run, queue)
    assert queue.stopped == ["42", "42"]
    assert [event["event"] for event in read_records(made.run.events)].count("cancel_requested") == 1


@pytest.mark.parametrize("ending", list(Ending))
def test_a_run_that_has_ended_is_left_alone(tmp_path: Path, ending: Ending) -> None:
    made, queue = MadeRun(tmp_path), FakeQueue(QueueState.gone)
    made.begin(step=0)
    made.end(ending)
    with pytest.raises(UserError, match="already"):
        cancel(made.run, queue)
    assert queue.stopped == []
    assert not made.run.cancel_request.exists()


class Deaf(FakeQueue):
    """A cluster that can be asked but not told."""

    def stop(self, job: Job) -> None:
        raise ClusterError(Problem(where="Slurm", message="refused"))


def test_a_run_whose_cluster_could_not_be_told_does_not_look_cancelled(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    with pytest.raises(ClusterError):
        cancel(made.run, Deaf(QueueState.running))
    assert not made.run.cancel_request.exists()
