"""From what an attempt left behind to the class of its failure. Pure: it reads nothing.

A failure spreads: one rank dies, and every other one complains about its peer. The order in which causes are looked
for is what this file owns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.failures import FailureClass
from launcher.runs.outcome import Ending, RankWord

CONSEQUENCES = (FailureClass.communication, FailureClass.hang)
"""What a rank says when it is another one that died."""
HUNG_STATUS = 142
"""Exit status of a rank that its own watchdog ended (128 + SIGALRM)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankExit:
    """A bad exit, in the words of srun or of the local job."""

    rank: int
    """Global rank."""
    node: str
    """Where it ran."""
    status: int
    """Exit status; 128 + N for signal N."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What an attempt left behind."""

    words: Sequence[RankWord]
    """Of the ranks that left one."""
    exits: Sequence[RankExit]
    """Bad exits, the first one first."""
    dumped: Sequence[int]
    """Ranks whose watchdog dumped stacks."""
    said: str
    """What Slurm printed during the attempt."""
    world_size: int
    """Ranks that were started."""
    exit_code: int
    """Of the ranks together."""
    first_node: str
    """Node of the batch script."""
    closed_late: bool
    """Nobody lived to write the outcome: a later attempt does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What an attempt ended of."""

    state: Ending
    """How it ended."""
    failure: FailureClass | None
    """Why; None if it completed."""
    reason: str
    """In words, with rank and node."""
    node: str | None = None
    """Node at fault."""
    rank: int | None = None
    """Rank at fault."""
    step: int | None = None
    """Optimiser steps done."""


def diagnose(evidence: Evidence) -> Diagnosis:
    """The cause, and the node where it began."""
    return next(_causes(evidence))


def _causes(evidence: Evidence) -> Iterator[Diagnosis]:
    """Every explanation that fits, the likeliest cause first; the last one always fits."""
    failed = sorted((word for word in evidence.words if word.state is Ending.failed), key=lambda word: word.time)
    if not failed and _all_well(evidence):
        told = _told(evidence.words)
        # SIGTERM says that it is over; Slurm's own words say why.
        if told.failure is FailureClass.preempted:
            yield from (replace(told, failure=said.failure, node=said.node) for said in _by_slurm(evidence))
        yield told
    # Never a consequence of anything else.
    specific = (word for word in failed if word.failure not in (*CONSEQUENCES, FailureClass.bug))
    yield from (_by_word(word) for word in specific)
    yield from _by_slurm(evidence)
    yield from _killed_for_memory(evidence)
    lost = _lost(evidence)
    bugs = [word for word in failed if word.failure is FailureClass.bug]
    if bugs and not (evidence.exits and lost and evidence.exits[0].rank == lost.rank):
        yield _by_word(bugs[0])
    if not _hung(evidence) and lost is not None:
        yield lost
    yield from _hang(evidence)
    yield from (_by_word(word) for word in failed)
    yield from _told_at_start(evidence)
    yield _silent(evidence)


def _all_well(evidence: Evidence) -> bool:
    """Every rank left a good word; what killed it afterwards cost nothing."""
    return len(evidence.words) == evidence.world_size > 0


def _told(words: Sequence[RankWord]) -> Diagnosis:
    first = min(words, key=lambda word: word.rank)
    return Diagnosis(state=first.state, failure=first.failure, reason=first.reason, step=first.step)


def _by_word(word: RankWord) -> Diagnosis:
    return Diagnosis(
        state=Ending.failed,
        failure=word.failure or FailureClass.bug,
        reason=f"rank {word.rank} on {word.host}: {word.reason}",
        node=word.blames or word.host,
        rank=word.rank,
        step=word.step,
    )


SLURM_SAYS = (
    (re.compile(r"DUE TO TIME LIMIT"), FailureClass.time_limit, "Slurm ended the job at its time limit"),
    (re.compile(r"DUE TO PREEMPTION"), FailureClass.preempted, "preempted, with no time left to write a checkpoint"),
    (
        re.compile(r"DUE TO NODE FAILURE|Node failure on (?P<node>[\w.-]+)"),
        FailureClass.node_failure,
        "Slurm lost a node",
    ),
)
"""Slurm's own words, which leave no doubt."""


def _by_slurm(evidence: Evidence) -> Iterator[Diagnosis]:
    for pattern, failure, reason in SLURM_SAYS:
        found = pattern.search(evidence.said)
        if found:
            node = found.groupdict().get("node")
            where = "" if node is None else f" ({node})"
            yield Diagnosis(state=Ending.failed, failure=failure, reason=f"{reason}{where}", node=node)


def _killed_for_memory(evidence: Evidence) -> Iterator[Diagnosis]:
    found = re.search(r"oom[-_ ]kill|Out Of Memory", evidence.said, re.IGNORECASE)
    if found:
        node = re.search(r"(?:slurmstepd-|error: )([\w.-]+): (?:task|.*oom)", evidence.said)
        yield Diagnosis(
            state=Ending.failed,
            failure=FailureClass.out_of_host_memory,
            reason="the kernel killed a process for want of host memory",
            node=None if node is None else node.group(1),
        )


def _lost(evidence: Evidence) -> Diagnosis | None:
    """The first rank that ended without a word."""
    worded = {word.rank for word in evidence.words}
    for end in evidence.exits:
        if end.rank not in worded and end.status not in (HUNG_STATUS, 128 + 15):
            how = f"was killed by signal {end.status - 128}" if end.status > 128 else f"left with status {end.status}"
            return Diagnosis(
                state=Ending.failed,
                failure=FailureClass.lost_process,
                reason=f"rank {end.rank} on {end.node} {how}",
                node=end.node,
                rank=end.rank,
            )
    return None


def _hung(evidence: Evidence) -> bool:
    return bool(evidence.dumped) or any(end.status == HUNG_STATUS for end in evidence.exits)


def _hang(evidence: Evidence) -> Iterator[Diagnosis]:
    if not _hung(evidence):
        return
    # srun's SIGCONT at the end of the step wakes a rank that was stopped; its alarm ends it before it can dump.
    dumped = set(evidence.dumped) or {end.rank for end in evidence.exits if end.status == HUNG_STATUS}
    silent = [end for end in evidence.exits if end.rank not in dumped]
    reason = f"{len(dumped)} of {evidence.world_size} ranks waited too long; their stacks are in the attempt's folder"
    # Who is stopped, or stuck in the kernel, is the one whose watchdog never spoke.
    if silent:
        reason = f"rank {silent[0].rank} on {silent[0].node} stopped answering, and {reason}"
    yield Diagnosis(
        state=Ending.failed,
        failure=FailureClass.hang,
        reason=reason,
        node=silent[0].node if silent else None,
        rank=silent[0].rank if silent else None,
    )


def _told_at_start(evidence: Evidence) -> Iterator[Diagnosis]:
    """Told to leave before the ranks could take the signal."""
    if any(end.status == 128 + 15 for end in evidence.exits):
        reason = "told to leave (SIGTERM) before the ranks had started"
        yield Diagnosis(state=Ending.stopped, failure=FailureClass.preempted, reason=reason)


def _silent(evidence: Evidence) -> Diagnosis:
    if evidence.closed_late:
        reason = f"{evidence.first_node} or its slurmd died, and nobody lived to say how the attempt ended"
        return Diagnosis(
            state=Ending.failed, failure=FailureClass.node_failure, reason=reason, node=evidence.first_node
        )
    missing = evidence.world_size - len(evidence.words)
    reason = f"{missing} of {evidence.world_size} ranks ended without a word, with exit code {evidence.exit_code}"
    return Diagnosis(state=Ending.failed, failure=FailureClass.lost_process, reason=reason)


EXIT_LINE = re.compile(r"^srun: error: (?P<node>[\w.-]+): tasks? (?P<tasks>[\d,-]+): (?P<how>.+?)\s*$", re.MULTILINE)
SIGNAL_NAMES = {
    "Killed": 9,
    "Terminated": 15,
    "Aborted": 6,
    "Segmentation fault": 11,
    "Bus error": 7,
    "Alarm clock": 14,
    "Illegal instruction": 4,
}


def srun_exits(said: str) -> list[RankExit]:
    """The bad exits that srun told, in its order."""
    found = []
    for line in EXIT_LINE.finditer(said):
        status = _status(line["how"])
        if status:
            found += [RankExit(rank=rank, node=line["node"], status=status) for rank in _ranks(line["tasks"])]
    return found


def _status(how: str) -> int:
    code = re.match(r"Exited with exit code (\d+)", how)
    if code:
        return int(code.group(1))
    return next((128 + number for name, number in SIGNAL_NAMES.items() if how.startswith(name)), 0)


def _ranks(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
