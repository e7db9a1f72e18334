"""The story of a run, as data and in about ten lines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.cli.why import lines
from launcher.cluster.protocol import QueueState
from launcher.config.survival import Action
from launcher.failures import FailureClass
from launcher.plain import plain
from launcher.runplan import RunPlan
from launcher.runs.advice import memory_advice
from launcher.runs.events import Event
from launcher.runs.outcome import Ending
from launcher.runs.why import Story, why
from tests.fakes import FakeQueue, MadeRun

PENDING, RUNNING, GONE = QueueState.pending, QueueState.running, QueueState.gone


def story(made: MadeRun, answer: QueueState = GONE) -> Story:
    return why(made.run, FakeQueue(answer).state)


def page(made: MadeRun, answer: QueueState = GONE) -> list[str]:
    return list(lines(story(made, answer)))


def line(page: list[str], name: str) -> str:
    (found,) = [line for line in page if line.startswith(name)]
    return found.removeprefix(name).strip()


def troubled(root: Path) -> MadeRun:
    """Preempted, then a lost node, then out of memory."""
    made = MadeRun(root)
    made.begin(step=0, total=100)
    made.steps(range(1, 31), step_time_s=4.0)
    made.checkpoint(30, seconds=8, stalled_s=2)
    made.end(
        Ending.stopped, "told to stop (SIGTERM)", failure=FailureClass.preempted, action=Action.requeue, after_s=200
    )
    made.begin(step=30, total=100)
    made.steps(range(31, 61), step_time_s=4.0)
    made.checkpoint(50, seconds=8, stalled_s=2)
    lost = "Slurm lost a node (n2)"
    made.end(
        Ending.failed, lost, failure=FailureClass.node_failure, action=Action.requeue_elsewhere, node="n2", after_s=300
    )
    made.event(Event.node_excluded, node="n2", reason=lost)
    made.begin()
    made.event(Event.passed_over, step=50, reason="the content of rank-0.pt has changed since it was written")
    made.event(Event.training_started, step=30, total_steps=100, world_size=2)
    made.steps([31])
    oom = "rank 3 on n3: CUDA out of memory"
    made.end(
        Ending.failed, oom, failure=FailureClass.out_of_memory, advice="a smaller train.micro_batch_size", after_s=60
    )
    return made


def test_the_story_fits_ten_lines_and_tells_each_attempt(tmp_path: Path) -> None:
    told = page(troubled(tmp_path))
    assert len(told) <= 10
    assert told[0] == "demo-1 is FAILED at step 31 of 100"
    first, second, third = (line(told, f"attempt {number}") for number in (1, 2, 3))
    assert "3 min  steps 0–30" in first
    assert first.endswith("preempted: told to stop (SIGTERM)")
    assert second.endswith("5 min  steps 30–60  node failure: Slurm lost a node (n2); 30 steps lost")
    assert third.endswith("out of memory: rank 3 on n3: CUDA out of memory")
    assert line(told, "avoided") == "n2: Slurm lost a node (n2)"
    assert line(told, "passed over").startswith("the checkpoint at step 50, for the content of rank-0.pt has changed")
    assert line(told, "lost").startswith("30 steps; goodput ")
    assert line(told, "next") == "`launcher resume demo-1` goes on from the checkpoint at step 30"
    assert line(told, "to change") == "a smaller train.micro_batch_size"
    # √(2 · 560 s ÷ 1 failure · 2 s) = 47 s, at 1 s a step of the newest attempt.
    assert line(told, "checkpoints").startswith("checkpoint.every_steps=47 would lose the least time")


def test_a_long_history_is_folded_in_the_middle(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    for number in range(41):
        made.begin(step=number)
        made.steps([number + 1])
        made.end(Ending.stopped, "told to stop", failure=FailureClass.preempted, action=Action.requeue)
    told = page(made, PENDING)
    assert [text.split("  ")[0] for text in told[1:6]] == ["attempt 1", "…", "attempt 39", "attempt 40", "attempt 41"]
    assert line(told, "…") == "37 more attempts, all preempted"


def test_a_mixed_middle_is_counted_by_class(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    for number, failure in enumerate([FailureClass.preempted, *[FailureClass.hang] * 2, *[FailureClass.preempted] * 5]):
        made.begin(step=number)
        made.steps([number + 1, number + 2])
        made.end(Ending.failed, failure=failure, action=Action.requeue)
    assert line(page(made, PENDING), "…") == "4 more attempts, 2 hang, 2 preempted; 4 steps lost"


def test_a_run_that_goes_on_by_itself_asks_nothing(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps([1])
    made.checkpoint(1)
    made.end(Ending.failed, "n2 died", failure=FailureClass.node_failure, action=Action.requeue_elsewhere, node="n2")
    told = page(made, PENDING)
    assert told[0] == "demo-1 is REQUEUED at step 1 of 10: it starts again without n2"
    assert line(told, "next") == "nothing to do: it goes on from the checkpoint at step 1 by itself"
    made.event(Event.postponed, until=made.started)
    assert ", not before " in line(page(made, PENDING), "next")


def test_a_run_that_is_well_says_so_in_a_few_lines(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps([1, 2])
    told = page(made, RUNNING)
    assert len(told) == 4
    assert told[0] == "demo-1 is RUNNING at step 2 of 10"
    assert line(told, "attempt 1").endswith("steps 0–2  running")
    assert line(told, "next") == "nothing to do: it runs"


def test_a_run_that_is_done_names_the_next_verb(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps([1])
    made.end(Ending.completed, "all steps done")
    assert "launcher export demo-1" in line(page(made), "next")


@pytest.mark.parametrize("submitted", [True, False])
def test_a_run_without_attempts_has_a_story_too(tmp_path: Path, submitted: bool) -> None:
    told = page(MadeRun(tmp_path, submitted=submitted), PENDING)
    assert len(told) == 2


def test_an_attempt_that_nobody_closed_is_told(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.begin(step=0)
    assert line(page(made, RUNNING), "attempt 1").endswith("ended, and nobody lived to say how")


def test_rollbacks_are_counted(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.steps([1, 2, 3, 2])
    made.event(Event.rolled_back, step=1, first=2, last=3, reason="loss", file="f")
    assert line(page(made, RUNNING), "lost").startswith("2 steps, 1 rollback;")


def test_a_requeue_that_did_not_happen_is_told_at_the_top(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin(step=0)
    made.end(Ending.failed, "n2 died", failure=FailureClass.node_failure, action=Action.requeue)
    assert "it should have started again, and did not" in page(made)[0]
    assert "resume demo-1" in line(page(made), "next")


def test_of_a_message_of_many_lines_the_first_is_told(tmp_path: Path) -> None:
    made = MadeRun(tmp_path)
    made.begin()
    made.end(Ending.failed, "data.train: not found\n    do:    mend it", failure=FailureClass.user_error)
    told = page(made)
    assert line(told, "attempt 1").endswith("user error: data.train: not found")
    assert not [text for text in told if "\n" in text]


def test_the_story_is_one_json_document(tmp_path: Path) -> None:
    document = json.loads(json.dumps(plain(story(troubled(tmp_path)))))
    assert [chapter["failure"] for chapter in document["attempts"]] == ["preempted", "node_failure", "out_of_memory"]
    assert document["status"]["run_id"] == "demo-1"
    assert document["avoided_nodes"] == {"n2": "Slurm lost a node (n2)"}


@pytest.fixture
def plan(work: Path, tiny_model_dir: Path, demo: Path) -> RunPlan:
    from launcher.plan.build import Request, plan_request

    overrides = ["cluster=devslurm", "train.micro_batch_size=4"]
    return plan_request(Request(recipe="demo", overrides=overrides, config_dir=None, work_dir=work))


def test_out_of_memory_is_answered_in_the_runs_own_numbers(tmp_path: Path, plan: RunPlan) -> None:
    made = troubled(tmp_path / "runs")
    plan.write(made.run.plan)
    told = story(made)
    assert "resume with train.micro_batch_size=2 (it is 4)" in told.change
    assert told.checkpoint_every == plan.config.checkpoint.every_steps


def test_settings_that_are_used_up_are_not_suggested(plan: RunPlan) -> None:
    config = replace(
        plan.config,
        model=replace(plan.config.model, activation_checkpointing=True),
        zero=replace(plan.config.zero, stage=3, offload_optimizer=True),
    )
    spent = replace(plan, config=config, batch=replace(plan.batch, micro_batch_size=1))
    advice = memory_advice(spent)
    for setting in ("micro_batch_size", "activation_checkpointing", "zero="):
        assert setting not in advice
    assert advice.startswith("submit a new run with a shorter data.seq_len")
