"""What follows a failure: the policy of its class, bounded by progress, and by what would only happen again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from launcher.config.survival import Action, RetryConfig
from launcher.failures import DETERMINISTIC, FailureClass
from launcher.runs.diagnosis import Diagnosis
from launcher.runs.outcome import Ending, Outcome
from launcher.runs.retry import ADVICE, Decision, bad_nodes, decide

POLICY = RetryConfig(
    preempted=Action.requeue,
    time_limit=Action.requeue,
    node_failure=Action.requeue_elsewhere,
    lost_process=Action.requeue,
    gpu_error=Action.requeue_elsewhere,
    communication=Action.requeue_later,
    hang=Action.requeue,
    disk_full=Action.stop,
    not_a_number=Action.stop,
    bug=Action.stop,
    pause_s=120,
    max_without_progress=3,
)


def ended(failure: FailureClass | None, node: str | None = "n1", state: Ending = Ending.failed) -> Diagnosis:
    return Diagnosis(state=state, failure=failure, reason="it broke", node=node)


def before(
    failure: FailureClass, node: str | None, action: Action = Action.requeue, reason: str = "it broke"
) -> Outcome:
    return Outcome(
        attempt=1,
        job_id="1",
        state=Ending.failed,
        failure=failure,
        reason=reason,
        node=node,
        rank=None,
        exit_code=1,
        step=None,
        started=0.0,
        ended=1.0,
        action=action,
        advice="",
    )


def decided(
    diagnosis: Diagnosis,
    policy: RetryConfig = POLICY,
    earlier: Sequence[Outcome] = (),
    *,
    cancelled: bool = False,
    progress: Sequence[bool] = (True,),
) -> Decision:
    return decide(diagnosis, policy, earlier, cancelled=cancelled, progress=progress)


@pytest.mark.parametrize(
    ("failure", "action"),
    [
        (FailureClass.preempted, Action.requeue),
        (FailureClass.gpu_error, Action.requeue_elsewhere),
        (FailureClass.communication, Action.requeue_later),
        (FailureClass.bug, Action.stop),
    ],
)
def test_the_policy_of_the_class_decides(failure: FailureClass, action: Action) -> None:
    assert decided(ended(failure)).action is action


def test_every_class_has_a_policy_or_is_deterministic() -> None:
    eager = replace(POLICY, disk_full=Action.requeue, not_a_number=Action.requeue, bug=Action.requeue)
    for failure in FailureClass:
        expected = failure in DETERMINISTIC
        assert (decided(ended(failure), eager).action is Action.stop) is expected, failure


def test_a_run_that_is_done_or_that_its_user_stopped_is_not_started_again() -> None:
    assert decided(ended(None, state=Ending.completed)).action is Action.stop
    assert decided(ended(FailureClass.preempted), cancelled=True) == Decision(action=Action.stop, advice="")
    assert decided(ended(None)).action is Action.stop


def test_no_progress_over_as_many_attempts_as_the_policy_bears_stops_the_run() -> None:
    hang = ended(FailureClass.preempted, node=None)
    assert decided(hang, progress=[True, False, False]).action is Action.requeue
    assert decided(hang, progress=[False, False]).action is Action.requeue
    decision = decided(hang, progress=[True, False, False, False])
    assert decision.action is Action.stop
    assert "3 attempts in a row have written no checkpoint" in decision.advice


def test_a_run_that_stops_for_want_of_progress_still_says_what_to_change() -> None:
    decision = decided(ended(FailureClass.time_limit), progress=[False] * 3)
    assert ADVICE[FailureClass.time_limit] in decision.advice


def test_out_of_memory_suggests_settings() -> None:
    decision = decided(ended(FailureClass.out_of_memory))
    assert decision.action is Action.stop
    for setting in ("train.micro_batch_size", "model.activation_checkpointing", "zero=zero3"):
        assert setting in decision.advice


def test_a_stop_that_left_a_checkpoint_asks_nothing_of_the_user() -> None:
    assert decided(ended(FailureClass.time_limit, None, Ending.stopped)) == Decision(action=Action.requeue, advice="")


@pytest.mark.parametrize("failure", [FailureClass.lost_process, FailureClass.hang])
def test_a_node_that_fails_the_run_twice_is_avoided(failure: FailureClass) -> None:
    first = [before(FailureClass.lost_process, "n1")]
    assert decided(ended(failure, "n1"), earlier=first).action is Action.requeue_elsewhere
    assert decided(ended(failure, "n2"), earlier=first).action is Action.requeue
    assert decided(ended(failure, None), earlier=first).action is Action.requeue


def test_a_failure_that_no_node_explains_is_no_strike_against_the_node_where_it_showed() -> None:
    first = [before(FailureClass.time_limit, "n1"), before(FailureClass.preempted, "n1")]
    assert decided(ended(FailureClass.time_limit, "n1"), earlier=first).action is Action.requeue
    assert decided(ended(FailureClass.lost_process, "n1"), earlier=first).action is Action.requeue


def test_a_pause_does_not_keep_a_bad_node_in() -> None:
    policy = replace(POLICY, lost_process=Action.requeue_later)
    first = [before(FailureClass.lost_process, "n1")]
    assert decided(ended(FailureClass.lost_process, "n1"), policy, first).action is Action.requeue_elsewhere


def test_bad_nodes_are_remembered_with_the_reason() -> None:
    outcomes = [
        before(FailureClass.gpu_error, "n2", Action.requeue_elsewhere, "rank 3 on n2: uncorrectable ECC error"),
        before(FailureClass.lost_process, "n1"),
        before(FailureClass.node_failure, None, Action.requeue_elsewhere),
    ]
    assert bad_nodes(outcomes) == {"n2": "rank 3 on n2: uncorrectable ECC error"}
