from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import pytest

from launcher.cluster.protocol import Job, QueueState
from launcher.config.survival import Action
from launcher.failures import FailureClass
from launcher.publish import publish_json
from launcher.rundir import StageDir
from launcher.runs import follow as follow_module
from launcher.runs.events import Event
from launcher.runs.follow import follow
from launcher.runs.outcome import Ending
from launcher.runs.screen import Bar, Lines
from launcher.runs.stages import Link, write_links
from launcher.runs.status import State
from tests.fakes import FakeQueue, MadeRun, slurm_job

PENDING, RUNNING, GONE = QueueState.pending, QueueState.running, QueueState.gone


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "LOOK_S", 0.01)
    monkeypatch.setattr(follow_module, "FIRST_ASK_S", 0.02)
    monkeypatch.setattr(follow_module, "LONGEST_ASK_S", 0.02)


def finished(tmp_path: Path) -> MadeRun:
    made = MadeRun(tmp_path)
    made.begin(step=0, total=3)
    made.evaluation(0, loss=4.0)
    made.steps([1, 2, 3])
    made.evaluation(3, loss=2.5)
    made.checkpoint(3)
    made.end(Ending.completed, "all steps done", step=3)
    return made


def test_plain_lines_tell_events_evaluations_and_the_last_step_in_order(tmp_path: Path) -> None:
    made, out = finished(tmp_path), io.StringIO()
    assert follow(made.run, Lines(out), FakeQueue(GONE).state).state is State.COMPLETED
    lines = [line.split("  loss")[0] for line in out.getvalue().splitlines()]
    assert lines == [
        "attempt 1 started on n1",
        "training from step 0 of 3 on 2 ranks",
        "step 0  held-out loss 4.0000 over 7 tokens",
        "step 3/3",
        "step 3  held-out loss 2.5000 over 7 tokens",
        "checkpoint at step 3",
        "attempt 1 completed: all steps done",
    ]


def test_a_bar_ends_at_the_last_step_and_keeps_the_losses_in_sight(tmp_path: Path) -> None:
    made, out = finished(tmp_path), io.StringIO()
    follow(made.run, Bar(out), FakeQueue(GONE).state)
    last = out.getvalue().split("\r")[-1]
    assert "3/3" in last
    assert "eval=2.5000" in last
    assert "loss=4.7000" in last


def test_what_is_written_while_one_watches_is_shown(tmp_path: Path) -> None:
    made, out = MadeRun(tmp_path), io.StringIO()
    queue = FakeQueue(PENDING, PENDING, RUNNING)

    def run() -> None:
        time.sleep(0.1)
        made.begin(step=0, total=2)
        made.steps([1, 2])
        time.sleep(0.05)
        made.evaluation(2)
        made.end(Ending.completed, "all steps done")

    writer = threading.Thread(target=run)
    writer.start()
    found = follow(made.run, Lines(out), queue.state)
    writer.join()
    assert found.state is State.COMPLETED
    text = out.getvalue()
    assert text.startswith("queued (job 42)")
    assert text.index("step 2  held-out") < text.index("attempt 1 completed")


def test_a_run_that_fails_before_training_is_seen_to_fail(tmp_path: Path) -> None:
    made, out = MadeRun(tmp_path), io.StringIO()
    made.begin()
    made.end(Ending.failed, "no chat template")
    assert follow(made.run, Lines(out), FakeQueue(GONE).state).state is State.FAILED
    assert "attempt 1 failed (bug): no chat template" in out.getvalue()


@pytest.mark.parametrize("kind", ["slurm", "local"])
def test_an_attempt_that_another_one_follows_is_not_the_end(tmp_path: Path, kind: str) -> None:
    made, out = MadeRun(tmp_path, kind=kind), io.StringIO()
    made.begin(step=0)
    made.end(Ending.failed, "n2 died", failure=FailureClass.node_failure, action=Action.requeue_elsewhere, node="n2")
    made.event(Event.node_excluded, node="n2", reason="n2 died")
    made.event(Event.requeued, action="requeue_elsewhere", excluded=["n2"], restarts=1)
    asked = 0

    def ask(job: Job) -> QueueState:
        nonlocal asked
        asked += 1
        if asked == 4:
            made.begin(step=0)
            made.end(Ending.completed, "all steps done")
        return RUNNING

    assert follow(made.run, Lines(out), ask).state is State.COMPLETED
    lines = out.getvalue().splitlines()
    assert lines[2:5] == [
        "attempt 1 failed (node failure): n2 died",
        "node n2 will be avoided: n2 died",
        "requeued, avoiding n2",
    ]
    assert lines[5].startswith("requeued (job 42) – n2 died; it starts again without n2")


def test_a_run_that_should_have_come_back_and_did_not_has_failed(tmp_path: Path) -> None:
    made, out = MadeRun(tmp_path), io.StringIO()
    made.begin(step=0)
    made.end(Ending.failed, "n2 died", action=Action.requeue)
    made.event(Event.requeue_failed, reason="Access denied")
    assert follow(made.run, Lines(out), FakeQueue(RUNNING, GONE).state).state is State.FAILED
    assert "could not be requeued: Access denied" in out.getvalue()


def test_a_resumed_run_is_followed_from_its_resume(tmp_path: Path) -> None:
    made, out = finished(tmp_path), io.StringIO()
    made.submit()
    made.begin(step=3, total=4)
    made.steps([4])
    made.end(Ending.completed, "all steps done")
    follow(made.run, Lines(out), FakeQueue(GONE).state)
    assert "attempt 1" not in out.getvalue()
    assert "step 3  held-out" not in out.getvalue()
    assert "step 4/4" in out.getvalue()


def test_going_away_leaves_the_run_alone_and_says_so(tmp_path: Path) -> None:
    made, out = MadeRun(tmp_path), io.StringIO()

    def ask(job: Job) -> QueueState:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(made.run, Lines(out), ask)
    assert "the run goes on" in out.getvalue()


def test_a_loss_that_is_no_number_is_shown_as_such(tmp_path: Path) -> None:
    out = io.StringIO()
    lines = Lines(out)
    lines.step({"step": 1, "loss": None, "tokens_per_s": 5.0, "step_time_s": 1.0})
    lines.close()
    assert "loss nan" in out.getvalue()


def test_the_queue_is_asked_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "FIRST_ASK_S", 10.0)
    monkeypatch.setattr(follow_module, "LONGEST_ASK_S", 10.0)
    made, queue = MadeRun(tmp_path), FakeQueue(RUNNING)

    def end() -> None:
        time.sleep(0.2)
        made.begin(step=0)
        made.steps([1])
        made.end(Ending.completed, "all steps done")

    writer = threading.Thread(target=end)
    writer.start()
    follow(made.run, Lines(io.StringIO()), queue.state)
    writer.join()
    assert queue.asked == 1


def test_a_resumed_run_that_has_not_begun_again_is_not_taken_for_its_last_attempt(tmp_path: Path) -> None:
    made, out = finished(tmp_path), io.StringIO()
    made.run.attempt(1).rank_log(0).write_text("")
    made.submit()
    asked = 0

    def ask(job: Job) -> QueueState:
        nonlocal asked
        asked += 1
        if asked == 2:
            made.begin()
        if asked == 4:
            made.end(Ending.failed, "no")
            return GONE
        return RUNNING if asked < 4 else GONE

    follow(made.run, Lines(out), ask)
    phases = ["starting", "attempt 2 started on n1", "preparing data", "attempt 2 failed (bug): no"]
    assert out.getvalue().splitlines() == phases


def followed_by_export(made: MadeRun) -> Path:
    """An export, as job 50, that follows the run; returns where its results will be."""
    folder = made.run.submissions / "0001" / "export"
    folder.mkdir()
    write_links(made.run, [Link(name="export", job=slurm_job("50", 1), folder=str(folder))])
    return StageDir(folder).results


def test_what_follows_a_training_is_watched_to_its_end(tmp_path: Path) -> None:
    made, out = finished(tmp_path), io.StringIO()
    results = followed_by_export(made)
    looks: list[str] = []

    def ask(job: Job) -> QueueState:
        looks.append(job.job_id)
        if len(looks) == 3:
            publish_json(results, {})
        return RUNNING

    found = follow(made.run, Lines(out), ask)
    assert looks == ["50", "50", "50"]
    assert [stage.state.value for stage in found.stages] == ["COMPLETED", "COMPLETED"]
    assert "export running (job 50)" in out.getvalue()


def test_what_only_has_to_say_that_it_cannot_follow_is_not_waited_for(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    followed_by_export(made)
    made.begin(step=0)
    made.end(Ending.failed)
    queue = {"42": GONE, "50": PENDING}
    assert follow(made.run, Lines(io.StringIO()), lambda job: queue[job.job_id]).state is State.FAILED
