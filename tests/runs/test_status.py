from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from launcher.cluster.protocol import Job, QueueState
from launcher.config.survival import Action
from launcher.failures import FailureClass
from launcher.runs.events import Event, record
from launcher.runs.job import read_job, write_cancel_request
from launcher.runs.outcome import Ending
from launcher.runs.status import State, Status, status
from tests.fakes import FakeQueue, MadeRun

PENDING, RUNNING, GONE = QueueState.pending, QueueState.running, QueueState.gone


def seen(made: MadeRun, answer: QueueState | None) -> Status:
    return status(made.run, FakeQueue(answer).state)


def ask_to_cancel(made: MadeRun) -> None:
    job = read_job(made.run)
    assert job is not None
    write_cancel_request(made.run, job)


def test_the_names_are_those_of_the_contract() -> None:
    names = "run_id state job_id attempts step total_steps last_checkpoint lost_steps goodput reason"
    assert " ".join(field.name for field in dataclasses.fields(Status)) == f"{names} failure checkpoint_interval stages"


def test_a_run_that_no_cluster_took_has_failed(tmp_path: Path) -> None:
    found = seen(MadeRun(tmp_path, submitted=False), RUNNING)
    assert (found.state, found.reason, found.job_id) == (State.FAILED, "never submitted", None)


@pytest.mark.parametrize(
    ("answer", "state"),
    [(PENDING, State.QUEUED), (RUNNING, State.RUNNING), (GONE, State.FAILED), (None, State.QUEUED)],
)
def test_before_the_first_attempt_the_queue_decides(tmp_path: Path, answer: QueueState | None, state: State) -> None:
    assert seen(MadeRun(tmp_path), answer).state is state


@pytest.mark.parametrize(
    ("answer", "state"),
    [(PENDING, State.REQUEUED), (RUNNING, State.RUNNING), (GONE, State.FAILED), (None, State.RUNNING)],
)
def test_an_attempt_without_a_word_is_judged_by_the_queue(
    tmp_path: Path, answer: QueueState | None, state: State
) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    assert seen(made, answer).state is state


AGAIN = (Action.requeue, Action.requeue_elsewhere, Action.requeue_later)


@pytest.mark.parametrize("action", AGAIN)
@pytest.mark.parametrize("ending", [Ending.stopped, Ending.failed])
@pytest.mark.parametrize(
    ("answer", "state"),
    [(PENDING, State.REQUEUED), (RUNNING, State.REQUEUED), (GONE, State.FAILED), (None, State.REQUEUED)],
)
def test_an_attempt_that_another_one_follows_is_requeued_as_long_as_its_job_lives(
    tmp_path: Path, ending: Ending, action: Action, answer: QueueState | None, state: State
) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(ending, action=action, failure=FailureClass.preempted)
    found = seen(made, answer)
    assert (found.state, found.failure) == (state, FailureClass.preempted)
    assert str(found.reason).startswith("so it was; it")


@pytest.mark.parametrize(
    ("ending", "answer", "state"),
    [
        # An administrator may put any job back into the queue.
        (Ending.failed, PENDING, State.REQUEUED),
        (Ending.failed, RUNNING, State.FAILED),
        (Ending.failed, GONE, State.FAILED),
        (Ending.failed, None, State.FAILED),
        (Ending.stopped, GONE, State.CANCELLED),
        (Ending.stopped, None, State.CANCELLED),
    ],
)
def test_an_attempt_that_nothing_follows_is_the_end_unless_its_job_is_back(
    tmp_path: Path, ending: Ending, answer: QueueState | None, state: State
) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(ending)
    found = seen(made, answer)
    assert found.state is state
    assert str(found.reason).startswith("so it was")


def test_a_requeue_that_did_not_happen_says_so_and_what_to_do(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(Ending.failed, "n2 died", action=Action.requeue_elsewhere, node="n2")
    made.event(Event.requeue_failed, reason="Requested operation is presently disabled")
    reason = str(seen(made, GONE).reason)
    assert "did not (Requested operation is presently disabled)" in reason
    assert "`launcher resume demo-1`" in reason


def test_what_follows_is_told(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(Ending.failed, "n2 died", action=Action.requeue_elsewhere, node="n2")
    assert seen(made, PENDING).reason == "n2 died; it starts again without n2"


def test_a_job_that_scancel_ended_is_cancelled(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(Ending.failed)
    path = made.run.attempt(1).outcome
    path.write_text(json.dumps({**json.loads(path.read_text()), "failure": None}))
    assert seen(made, GONE).state is State.CANCELLED


def test_an_outcome_of_before_the_classes_can_be_read(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(Ending.completed, "all steps done")
    path = made.run.attempt(1).outcome
    names = ("attempt", "job_id", "state", "reason", "exit_code", "step", "ended")
    path.write_text(json.dumps({name: json.loads(path.read_text())[name] for name in names}))
    assert seen(made, GONE).state is State.COMPLETED


@pytest.mark.parametrize("ending", list(Ending))
def test_what_the_files_decide_is_not_asked_of_the_queue(tmp_path: Path, ending: Ending) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(ending)
    ask_to_cancel(made)
    queue = FakeQueue(RUNNING)
    expected = State.COMPLETED if ending is Ending.completed else State.CANCELLED
    assert status(made.run, queue.state).state is expected
    assert queue.asked == 0


def test_a_job_on_this_machine_that_stopped_is_not_asked(tmp_path: Path) -> None:
    made = MadeRun(tmp_path, kind="local")
    made.begin(step=0)
    made.end(Ending.failed)
    queue = FakeQueue(PENDING)
    assert status(made.run, queue.state).state is State.FAILED
    assert queue.asked == 0


@pytest.mark.parametrize(("answer", "state"), [(RUNNING, State.REQUEUED), (GONE, State.FAILED)])
def test_a_job_on_this_machine_starts_again_by_itself_while_it_lives(
    tmp_path: Path, answer: QueueState, state: State
) -> None:
    made = MadeRun(tmp_path, kind="local")
    made.begin(step=0)
    made.end(Ending.failed, action=Action.requeue)
    assert seen(made, answer).state is state


def test_a_job_that_was_cancelled_in_the_queue_is_cancelled(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    ask_to_cancel(made)
    found = seen(made, GONE)
    assert (found.state, found.reason) == (State.CANCELLED, "cancelled in the queue")


def test_a_run_that_was_asked_to_stop_runs_until_it_has_stopped(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    ask_to_cancel(made)
    found = seen(made, RUNNING)
    assert (found.state, found.reason) == (State.RUNNING, "asked to stop")


def test_a_resume_after_a_cancel_is_queued_and_not_cancelled(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    ask_to_cancel(made)
    made.end(Ending.stopped)
    made.submit()
    assert seen(made, PENDING).state is State.QUEUED
    made.begin(step=5)
    assert seen(made, RUNNING).state is State.RUNNING
    assert seen(made, GONE).state is State.FAILED


def test_an_attempt_that_began_before_its_job_was_noted_counts(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.submissions += 1
    made.begin(step=0)
    made.end(Ending.completed)
    assert seen(made, RUNNING).state is State.COMPLETED


def test_a_run_that_ends_between_the_look_and_the_question_has_not_failed(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)

    def ask(job: Job) -> QueueState:
        made.end(Ending.completed)
        return GONE

    assert status(made.run, ask).state is State.COMPLETED


def test_a_job_that_vanished_says_where_its_logs_are(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    assert str(made.run.attempt(1).root) in str(seen(made, GONE).reason)


def test_an_unreachable_cluster_is_told_and_the_files_answer(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps(range(1, 4))
    found = seen(made, None)
    assert found.step == 3
    assert "cannot reach the controller" in str(found.reason)


def test_numbers_come_from_the_files(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0, total=10)
    made.steps(range(1, 8))
    made.checkpoint(2)
    made.checkpoint(4)
    made.begin(step=4, total=10)
    made.steps([5])
    found = seen(made, RUNNING)
    assert (found.attempts, found.step, found.total_steps) == (2, 5, 10)
    assert (found.last_checkpoint, found.lost_steps) == (4, 3)


def test_lost_steps_add_up_over_attempts_also_over_one_that_got_nowhere(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps(range(1, 8))
    made.begin(step=4)
    made.begin(step=4)
    made.steps([5, 6])
    made.evaluation(6)
    made.begin(step=4)
    assert seen(made, RUNNING).lost_steps == 3 + 0 + 2


def test_numbers_that_nobody_knows_are_null(tmp_path: Path) -> None:
    found = seen(MadeRun(tmp_path), PENDING)
    assert (found.step, found.total_steps, found.last_checkpoint, found.goodput) == (0, None, None, None)


def test_a_run_that_waits_for_its_data_says_so(tmp_path: Path) -> None:
    made = MadeRun(tmp_path, submitted=False)
    made.submit(data_job_id="7")
    assert (seen(made, PENDING).state, seen(made, PENDING).reason) == (
        State.QUEUED,
        "its data is being prepared by job 7",
    )
    record(made.run, Event.data_prepared, 0, submission=1, seconds=2, rows=3, tokens=4)
    assert seen(made, PENDING).reason is None


def test_a_run_whose_data_job_failed_has_failed_of_it(tmp_path: Path) -> None:
    made = MadeRun(tmp_path, submitted=False)
    made.submit(data_job_id="7")
    assert "job 7, which was to prepare its data, ended without a word" in str(seen(made, GONE).reason)
    record(made.run, Event.data_failed, 0, submission=1, reason="train.jsonl is empty")
    found = seen(made, GONE)
    assert (found.state, found.reason) == (State.FAILED, "its data could not be prepared: train.jsonl is empty")
