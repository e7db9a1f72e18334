"""The first death is the cause, whatever the others say about it. The lines are those that Slurm prints."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from launcher.failures import FailureClass
from launcher.runs.diagnosis import Diagnosis, Evidence, RankExit, diagnose, srun_exits
from launcher.runs.outcome import Ending, RankWord

ABORTED = "srun: Job step aborted: Waiting up to 7 seconds for job step to finish."
STEP_CANCELLED = "slurmstepd-n1: error: *** STEP 12.0 ON n1 CANCELLED AT 2026-11-21T07:09:42 ***"
CLOSED = "RuntimeError: [enforce fail] Connection closed by peer [10.0.0.2]:29500"
TIMED_OUT = "RuntimeError: Timed out waiting 1800000ms for recv operation to complete"


def cancelled(what: str, why: str) -> str:
    return f"slurmstepd-n1: error: *** {what} ON n1 CANCELLED AT 2026-11-21T07:09:42 DUE TO {why} ***"


def word(
    rank: int,
    failure: FailureClass | None = None,
    reason: str = "it broke",
    *,
    state: Ending = Ending.failed,
    time: float = 1.0,
    step: int | None = None,
) -> RankWord:
    return RankWord(
        rank=rank, host=f"n{rank + 1}", pid=7, time=time, state=state, failure=failure, reason=reason, step=step
    )


def found(
    *lines: str,
    words: Sequence[RankWord] = (),
    exits: Sequence[RankExit] | None = None,
    dumped: Sequence[int] = (),
    world_size: int = 2,
    late: bool = False,
) -> Diagnosis:
    said = "\n".join(lines) + "\n"
    return diagnose(
        Evidence(
            words=words,
            exits=srun_exits(said) if exits is None else exits,
            dumped=dumped,
            said=said,
            world_size=world_size,
            exit_code=1,
            first_node="n1",
            closed_late=late,
        )
    )


def told(diagnosis: Diagnosis) -> tuple[FailureClass | None, str | None, int | None]:
    return diagnosis.failure, diagnosis.node, diagnosis.rank


# How srun tells of exits.


def test_every_rank_of_a_line_is_read_with_its_status() -> None:
    said = "\n".join(
        [
            "srun: error: n2: tasks 2-3,5: Killed",
            ABORTED,
            "srun: error: n1: task 0: Exited with exit code 3",
            "srun: error: n[1-2]: tasks 1,4: Segmentation fault (core dumped)",
        ]
    )
    seen = [(end.rank, end.node, end.status) for end in srun_exits(said)]
    assert seen == [
        (2, "n2", 137),
        (3, "n2", 137),
        (5, "n2", 137),
        (0, "n1", 3),
        (1, "n[1-2]", 139),
        (4, "n[1-2]", 139),
    ]


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("Terminated", 143),
        ("Aborted", 134),
        ("Aborted (core dumped)", 134),
        ("Bus error", 135),
        ("Alarm clock", 142),
        ("Floating point exception", 136),
        ("Out Of Memory", 137),
        ("Exited with exit code 142", 142),
    ],
)
def test_the_names_of_signals_are_known(how: str, status: int) -> None:
    assert [end.status for end in srun_exits(f"srun: error: gpu-a.site: task 1: {how}\n")] == [status]


def test_other_lines_of_srun_are_no_exits() -> None:
    assert (
        srun_exits(f"{ABORTED}\nsrun: error: Node failure on n2\nsrun: error: n1: task 0: Exited with exit code 0")
        == []
    )


# Good ends.


def test_all_ranks_saying_that_the_work_is_done_is_completion_whatever_kills_them_afterwards() -> None:
    good = [word(rank, None, "all steps done", state=Ending.completed, step=9) for rank in range(2)]
    diagnosis = found("srun: error: n1: task 0: Aborted", words=good)
    assert (diagnosis.state, diagnosis.failure, diagnosis.step) == (Ending.completed, None, 9)


def test_a_rank_that_loses_its_peers_after_all_is_done_costs_nothing() -> None:
    words = [word(0, None, "all steps done", state=Ending.completed), word(1, FailureClass.communication, CLOSED)]
    assert found("srun: error: n2: task 1: Exited with exit code 1", words=words).state is Ending.completed


def test_a_rank_that_is_silent_leaves_open_whether_the_work_is_done() -> None:
    words = [word(0, None, "all steps done", state=Ending.completed)]
    assert found("srun: error: n2: task 1: Killed", words=words).state is Ending.failed


def test_a_stop_that_one_rank_tells_of_was_agreed_by_all() -> None:
    stopped = word(0, FailureClass.preempted, "told to stop", state=Ending.stopped, step=7)
    diagnosis = found(cancelled("JOB 1", "PREEMPTION"), "srun: error: n2: task 1: Killed", words=[stopped])
    assert (diagnosis.state, diagnosis.failure, diagnosis.step) == (Ending.stopped, FailureClass.preempted, 7)


def test_a_stop_stands_against_the_complaints_of_those_who_left_last() -> None:
    words = [
        word(0, FailureClass.communication, CLOSED),
        word(1, FailureClass.time_limit, "time limit near", state=Ending.stopped),
    ]
    assert found(words=words).failure is FailureClass.time_limit


# Words that explain everything.


@pytest.mark.parametrize(
    "failure",
    [
        FailureClass.out_of_memory,
        FailureClass.gpu_error,
        FailureClass.disk_full,
        FailureClass.not_a_number,
        FailureClass.user_error,
        FailureClass.out_of_host_memory,
    ],
)
def test_a_rank_that_knows_why_it_failed_wins_over_those_that_lost_it(failure: FailureClass) -> None:
    words = [word(0, FailureClass.communication, CLOSED, time=1.0), word(1, failure, time=2.0, step=4)]
    diagnosis = found("srun: error: n1: task 0: Exited with exit code 1", ABORTED, STEP_CANCELLED, words=words)
    assert told(diagnosis) == (failure, "n2", 1)
    assert diagnosis.reason == "rank 1 on n2: it broke"
    assert diagnosis.step == 4


def test_of_two_causes_the_earlier_one_wins() -> None:
    words = [word(0, FailureClass.disk_full, time=5.0), word(1, FailureClass.out_of_memory, time=4.0)]
    assert found(words=words).failure is FailureClass.out_of_memory


# Slurm's words.


@pytest.mark.parametrize(
    ("why", "failure", "words"),
    [
        ("TIME LIMIT", FailureClass.time_limit, "time limit"),
        ("PREEMPTION", FailureClass.preempted, "preempted"),
        ("JOB REQUEUE", FailureClass.preempted, "requeued by an administrator or by Slurm"),
    ],
)
def test_slurms_word_wins_over_what_its_signals_did_to_the_ranks(why: str, failure: FailureClass, words: str) -> None:
    lines = ["srun: error: n2: task 1: Terminated", cancelled("JOB 1", why), "srun: error: n1: task 0: Killed"]
    diagnosis = found(*lines, words=[word(0, FailureClass.communication, CLOSED)])
    assert told(diagnosis) == (failure, None, None)
    assert words in diagnosis.reason


def test_a_rank_that_failed_before_slurm_ended_the_job_is_the_cause() -> None:
    lines = ["srun: error: n2: task 1: Segmentation fault", cancelled("JOB 1", "JOB REQUEUE")]
    assert told(found(*lines)) == (FailureClass.lost_process, "n2", 1)


def test_a_lost_node_is_the_one_that_is_named_not_the_one_that_speaks() -> None:
    lines = [
        "srun: error: n1: task 0: Exited with exit code 1",
        cancelled("STEP 12.0", "NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS"),
        "srun: error: Node failure on n2",
    ]
    diagnosis = found(*lines, words=[word(0, FailureClass.communication, CLOSED)])
    assert told(diagnosis) == (FailureClass.node_failure, "n2", None)


@pytest.mark.parametrize("hosts", ["n[2-3]", "n2,n4"])
def test_of_several_lost_nodes_none_is_blamed_but_all_are_told(hosts: str) -> None:
    diagnosis = found(f"srun: error: Node failure on {hosts}")
    assert told(diagnosis) == (FailureClass.node_failure, None, None)
    assert hosts in diagnosis.reason


def test_a_node_failure_without_a_name_blames_nobody() -> None:
    line = cancelled("JOB 1", "NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS")
    assert told(found(line, late=True)) == (FailureClass.node_failure, None, None)


def test_a_node_that_could_not_start_its_ranks_has_failed() -> None:
    line = "srun: error: Task launch for StepId=12.0 failed on node n2: Communication connection failure"
    assert told(found(line)) == (FailureClass.node_failure, "n2", None)


@pytest.mark.parametrize("tail", ["", " DUE to SIGNAL Terminated"])
def test_a_job_ended_by_scancel_is_nobodys_failure(tail: str) -> None:
    line = f"slurmstepd-n1: error: *** JOB 1 ON n1 CANCELLED AT 2026-11-21T07:09:42{tail} ***"
    diagnosis = found(line, late=True)
    assert (diagnosis.state, diagnosis.failure) == (Ending.failed, None)
    assert "scancel" in diagnosis.reason


@pytest.mark.parametrize(
    "lines",
    [
        [
            "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=5.0. Some of your processes may have been "
            "killed by the cgroup out-of-memory handler.",
            "srun: error: n1: task 0: Exited with exit code 1",
            "srun: error: n2: task 1: Out Of Memory",
        ],
        ["slurmstepd-n2: error: Detected 1 oom_kill event in StepId=5.0. Some of the step tasks have been OOM Killed."],
        ["slurmstepd-n2: error: StepId=5.0 exceeded memory limit (5120 > 4096), being killed"],
    ],
)
def test_the_kernels_kill_is_told_with_the_node_whose_memory_was_short(lines: list[str]) -> None:
    diagnosis = found(*lines, words=[word(0, FailureClass.communication, CLOSED)])
    assert told(diagnosis) == (FailureClass.out_of_host_memory, "n2", None)


def test_a_kill_for_memory_without_a_node_blames_none() -> None:
    line = "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=5.0. Some of your processes may have been killed"
    assert told(found("srun: error: n1: task 0: Killed", line)) == (FailureClass.out_of_host_memory, None, None)


# Silent deaths.


def test_the_first_silent_death_wins_over_its_peers_and_over_those_killed_for_its_sake() -> None:
    lines = [
        "srun: error: n2: task 1: Killed",
        ABORTED,
        STEP_CANCELLED,
        "srun: error: n1: task 0: Exited with exit code 1",
        "srun: error: n3: task 2: Killed",
    ]
    diagnosis = found(*lines, words=[word(0, FailureClass.communication, CLOSED)], world_size=3)
    assert told(diagnosis) == (FailureClass.lost_process, "n2", 1)
    assert diagnosis.reason == "rank 1 on n2 was killed (SIGKILL)"


def test_an_error_in_code_wins_over_those_that_were_killed_for_its_sake() -> None:
    lines = ["srun: error: n2: task 1: Exited with exit code 1", ABORTED, "srun: error: n1: task 0: Killed"]
    diagnosis = found(*lines, words=[word(1, FailureClass.bug, "KeyError: 'x'", step=3)])
    assert told(diagnosis) == (FailureClass.bug, "n2", 1)


def test_a_peers_death_can_look_like_an_error_in_code() -> None:
    lines = ["srun: error: n2: task 1: Segmentation fault", "srun: error: n1: task 0: Exited with exit code 1"]
    diagnosis = found(*lines, words=[word(0, FailureClass.bug, "RuntimeError: what")])
    assert told(diagnosis) == (FailureClass.lost_process, "n2", 1)
    assert "SIGSEGV" in diagnosis.reason


def test_a_rank_killed_because_another_lost_the_network_is_not_the_cause() -> None:
    lines = ["srun: error: n1: task 0: Exited with exit code 1", ABORTED, "srun: error: n2: task 1: Killed"]
    diagnosis = found(*lines, words=[word(0, FailureClass.communication, TIMED_OUT)])
    assert told(diagnosis) == (FailureClass.communication, None, None)
    assert "rank 0 on n1" in diagnosis.reason


def test_a_death_that_is_seen_at_the_same_moment_as_its_peers_complaint_is_the_cause() -> None:
    exits = [RankExit(rank=0, node="here", status=1), RankExit(rank=1, node="here", status=137)]
    diagnosis = found(exits=exits, words=[word(0, FailureClass.communication, CLOSED)])
    assert told(diagnosis) == (FailureClass.lost_process, "here", 1)


def test_a_death_on_one_of_several_nodes_blames_none() -> None:
    diagnosis = found("srun: error: n[1-2]: tasks 0-1: Killed")
    assert told(diagnosis) == (FailureClass.lost_process, None, 0)
    assert "one of n[1-2]" in diagnosis.reason


def test_a_rank_that_left_without_a_word_is_lost() -> None:
    diagnosis = found("srun: error: n1: task 0: Exited with exit code 2", ABORTED, "srun: error: n2: task 1: Killed")
    assert told(diagnosis) == (FailureClass.lost_process, "n1", 0)
    assert "status 2" in diagnosis.reason


def test_ranks_without_exits_or_words_are_counted() -> None:
    assert found().reason == "2 of 2 ranks ended without a word, with exit code 1"


def test_ranks_told_to_leave_before_they_listen_were_preempted() -> None:
    diagnosis = found("srun: error: n1: task 0: Terminated", "srun: error: n2: task 1: Killed")
    assert (diagnosis.state, diagnosis.failure) == (Ending.stopped, FailureClass.preempted)


# Hangs.


def test_the_rank_that_never_spoke_is_the_one_that_was_waited_for() -> None:
    lines = ["srun: error: n2: task 1: Exited with exit code 142", ABORTED, "srun: error: n1: task 0: Killed"]
    diagnosis = found(*lines, dumped=[1])
    assert told(diagnosis) == (FailureClass.hang, "n1", 0)
    assert diagnosis.reason.startswith("rank 0 on n1 stopped answering, and 1 of 2 ranks waited too long")


def test_a_node_all_of_whose_ranks_are_silent_is_the_one_that_was_waited_for() -> None:
    lines = ["srun: error: n1: tasks 0-1: Alarm clock", "srun: error: n2: tasks 2-3: Killed"]
    diagnosis = found(*lines, dumped=[0, 1], world_size=4)
    assert told(diagnosis) == (FailureClass.hang, "n2", None)
    assert "ranks 2, 3 on n2" in diagnosis.reason


def test_silent_ranks_on_several_nodes_leave_open_which_one_it_was() -> None:
    lines = [
        "srun: error: n1: task 0: Alarm clock",
        "srun: error: n2: task 1: Killed",
        "srun: error: n3: task 2: Killed",
    ]
    assert told(found(*lines, dumped=[0], world_size=3)) == (FailureClass.hang, None, None)


def test_when_all_ranks_wait_nobody_is_blamed() -> None:
    diagnosis = found("srun: error: n[1-2]: tasks 0-1: Alarm clock", dumped=[0, 1])
    assert told(diagnosis) == (FailureClass.hang, None, None)


def test_a_hang_that_lasted_until_the_time_limit_is_a_hang() -> None:
    assert found(cancelled("JOB 1", "TIME LIMIT"), dumped=[0, 1]).failure is FailureClass.hang


def test_ranks_that_waited_for_one_that_had_died_did_not_hang() -> None:
    lines = ["srun: error: n2: task 1: Killed", "srun: error: n1: task 0: Alarm clock"]
    assert told(found(*lines, dumped=[0])) == (FailureClass.lost_process, "n2", 1)


def test_ranks_that_waited_for_a_lost_node_did_not_hang() -> None:
    lines = ["srun: error: n1: task 0: Alarm clock", "srun: error: Node failure on n2"]
    assert told(found(*lines, dumped=[0])) == (FailureClass.node_failure, "n2", None)


# Nobody lived.


def test_an_attempt_that_nobody_could_close_lost_its_first_node() -> None:
    diagnosis = found(words=[word(1, FailureClass.communication, CLOSED, step=12)], late=True)
    assert told(diagnosis) == (FailureClass.node_failure, "n1", None)
    assert diagnosis.step == 12


def test_an_attempt_that_was_closed_late_keeps_its_own_explanation() -> None:
    assert found(words=[word(1, FailureClass.out_of_memory)], late=True).failure is FailureClass.out_of_memory
    assert found(cancelled("JOB 1", "TIME LIMIT"), late=True).failure is FailureClass.time_limit
