"""What follows an attempt that ended early: start again, where and when, or leave it to the user. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launcher.config.survival import Action, RetryConfig
from launcher.failures import DETERMINISTIC, FailureClass
from launcher.runs.diagnosis import Diagnosis
from launcher.runs.outcome import Ending, Outcome

STRIKES = 2
"""Failures of one node after which it is avoided, also where the class alone would start again anywhere."""
BY_NODE = (FailureClass.node_failure, FailureClass.gpu_error, FailureClass.lost_process, FailureClass.hang)
"""Classes that a bad node explains. Others name the node where they showed: the first rank meets every error first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What follows, and what the user can change."""

    action: Action
    """What follows."""
    advice: str
    """Empty where there is nothing to do."""


ADVICE = {
    FailureClass.out_of_memory: "in the order in which it costs speed: a smaller train.micro_batch_size, "
    "model.activation_checkpointing=true, zero=zero3, more GPUs, a shorter data.seq_len, zero=zero3_offload",
    FailureClass.out_of_host_memory: "ask for more with cluster.mem_gb_per_node, lower data.workers, or turn off "
    "zero.offload_optimizer and zero.offload_param",
    FailureClass.disk_full: "free space or inodes where the run lies (`launcher ckpt prune`, checkpoint.keep_last), "
    "then resume",
    FailureClass.not_a_number: "a lower optim.lr, a longer warm-up, precision=bf16, or look at the samples named in "
    "the events",
    FailureClass.hang: "read the stacks in the attempt's folder; if the phase is only slow, raise watchdog.step_s, "
    "start_s or save_s",
    FailureClass.communication: "check the fabric between the nodes (NCCL_DEBUG=INFO in cluster.environment says more)",
    FailureClass.lost_process: "read the end of the rank's log, and the node's kernel log (dmesg)",
    FailureClass.gpu_error: "tell the cluster's admins about the node",
    FailureClass.bug: "read the traceback in the rank's log",
    FailureClass.user_error: "mend what the message names, then resume",
    FailureClass.time_limit: "a longer cluster.signal_lead_s leaves time for a checkpoint, a longer time_min for all",
}


def decide(
    diagnosis: Diagnosis,
    policy: RetryConfig,
    earlier: Sequence[Outcome],
    *,
    cancelled: bool,
    progress: Sequence[bool],
) -> Decision:
    """What follows `diagnosis`.

    `earlier` are the outcomes of the attempts before; `progress` says of the last attempts, this one at the end,
    whether each committed a checkpoint.
    """
    failure = diagnosis.failure
    if diagnosis.state is Ending.completed or cancelled or failure is None:
        return Decision(action=Action.stop, advice="")
    # A stop that was announced, and left a checkpoint, leaves nothing to mend.
    advice = ADVICE.get(failure, "") if diagnosis.state is Ending.failed else ""
    action = action_of(failure, policy)
    bound = policy.max_without_progress
    if action is not Action.stop and len(progress) >= bound and not any(progress[-bound:]):
        words = f"{bound} attempts in a row have written no checkpoint, so the run is not started again"
        return Decision(action=Action.stop, advice="; ".join(part for part in (words, advice) if part))
    if action in (Action.requeue, Action.requeue_later) and _strikes(diagnosis, earlier) >= STRIKES:
        action = Action.requeue_elsewhere
    return Decision(action=action, advice=advice)


def action_of(failure: FailureClass, policy: RetryConfig) -> Action:
    """What the policy says of a class."""
    if failure in DETERMINISTIC:
        return Action.stop
    action: Action = getattr(policy, failure.value)
    return action


def _strikes(diagnosis: Diagnosis, earlier: Sequence[Outcome]) -> int:
    """How often the node has failed this run, now included."""
    if diagnosis.node is None or diagnosis.failure not in BY_NODE:
        return 0
    return 1 + sum(outcome.node == diagnosis.node and outcome.failure in BY_NODE for outcome in earlier)


def bad_nodes(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Nodes that the run avoids, each with the reason."""
    return {
        outcome.node: outcome.reason
        for outcome in outcomes
        if outcome.action is Action.requeue_elsewhere and outcome.node is not None
    }
