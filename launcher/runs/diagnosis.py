"""From what an attempt left behind to the class of its failure. Pure: it reads nothing.

A failure spreads: one rank dies, and every other one complains about its peer, or is killed with it. The order in
which causes are looked for is what this file owns.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.failures import FailureClass, failure_by_status
from launcher.runs.outcome import Ending, RankWord
from launcher.runs.slurm_words import (
    TERMINATED,
    SlurmWord,
    ended_by_slurm,
    killed_for_memory,
    lost_node,
    one_node,
    ranks_not_started,
)

# Whoever gathers evidence needs these too.
from launcher.runs.slurm_words import RankExit as RankExit
from launcher.runs.slurm_words import srun_exits as srun_exits

CONSEQUENCES = (FailureClass.communication, FailureClass.hang)
"""What a rank says when it is another one that died; the rank that says so is not at fault."""
HUNG_STATUS = 128 + signal.SIGALRM
"""Exit status of a rank that its own watchdog ended."""
PEER_IS_GONE = re.compile(r"[Cc]onnection (closed|reset)|closed by peer|Broken pipe")
"""What a rank is told whose peer's process has ended. One whose network is broken is told of time."""


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
    """Why; None if it completed, or if somebody wanted it to end."""
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
    found = next(_causes(evidence))
    known = [word.step for word in evidence.words if word.step is not None]
    return replace(found, step=max(known)) if found.step is None and known else found


def _causes(evidence: Evidence) -> Iterator[Diagnosis]:
    """Every explanation that fits, the likeliest cause first; the last one always fits."""
    failed = sorted(
        (word for word in evidence.words if word.state is Ending.failed), key=lambda word: (word.time, word.rank)
    )
    yield from _told(evidence, failed)
    # Never a consequence of anything else.
    yield from (_by_word(word) for word in failed if word.failure not in (*CONSEQUENCES, FailureClass.bug))
    # Before what Slurm does to a job: ranks that hang until its time is up hung first.
    hang = _hang(evidence)
    yield from _by_slurm(lost_node(evidence.said))
    if hang is None:
        yield from _by_slurm(ended_by_slurm(evidence.said))
    yield from _by_slurm(killed_for_memory(evidence.said))
    if not evidence.words:
        yield from _by_slurm(ranks_not_started(evidence.said))
    lost = None if hang else _lost(evidence)
    bugs = [word for word in failed if word.failure is FailureClass.bug]
    # A peer's death can look like an error in the code of those who wait for it.
    if bugs and (lost is None or evidence.exits[0].rank != lost.rank):
        yield _by_word(bugs[0])
    yield from (cause for cause in (lost, hang) if cause)
    if evidence.closed_late:
        yield _nobody_lived(evidence)
    yield from (_by_word(word) for word in failed)
    yield from _told_at_start(evidence)
    yield _silent(evidence)


def _told(evidence: Evidence, failed: Sequence[RankWord]) -> Iterator[Diagnosis]:
    """The good end that the ranks agreed on; who dies after that costs nothing."""
    # To stop is agreed by all, and said once the checkpoint is there.
    good = [word for word in evidence.words if word.state is Ending.stopped]
    if not good and len(evidence.words) == evidence.world_size and all(word.failure in CONSEQUENCES for word in failed):
        good = [word for word in evidence.words if word.state is Ending.completed]
    node = lost_node(evidence.said)
    for word in sorted(good, key=lambda word: word.rank):
        told = Diagnosis(state=word.state, failure=word.failure, reason=word.reason, step=word.step)
        # The ranks know that they were told to leave; Slurm may know that it was for a dead node.
        if node is not None and told.failure is FailureClass.preempted:
            told = replace(told, failure=node.failure, reason=node.reason, node=node.node)
        yield told


def _by_word(word: RankWord) -> Diagnosis:
    failure = word.failure or FailureClass.bug
    at_fault = failure not in CONSEQUENCES
    return Diagnosis(
        state=Ending.failed,
        failure=failure,
        reason=f"rank {word.rank} on {word.host}: {word.reason}",
        node=(word.blames or word.host) if at_fault else None,
        rank=word.rank if at_fault else None,
        step=word.step,
    )


def _by_slurm(word: SlurmWord | None) -> Iterator[Diagnosis]:
    if word is not None:
        yield Diagnosis(state=Ending.failed, failure=word.failure, reason=word.reason, node=word.node)


def _lost(evidence: Evidence) -> Diagnosis | None:
    """The rank whose death came first, if it ended without a word; those killed after it were ended for its sake."""
    words = {word.rank: word for word in evidence.words}
    for end in evidence.exits:
        word = words.get(end.rank)
        if word is None and end.status not in (HUNG_STATUS, TERMINATED):
            told = failure_by_status(end.status)
            reason = f"rank {end.rank} on {_place(end)} {_manner(end.status)}"
            return Diagnosis(
                state=Ending.failed,
                failure=told or FailureClass.lost_process,
                reason=reason,
                node=None if told in UNBLAMED else one_node(end.node),
                rank=end.rank,
            )
        # Deaths at the same moment are told in any order: a rank that was left by a peer is not the first one.
        left = word is not None and word.failure is FailureClass.communication and PEER_IS_GONE.search(word.reason)
        if not left:
            return None
    return None


def _place(end: RankExit) -> str:
    return end.node if one_node(end.node) else f"one of {end.node}"


UNBLAMED = (*CONSEQUENCES, FailureClass.disk_full, FailureClass.user_error, FailureClass.bug)
"""Classes that say nothing against the node."""


def _manner(status: int) -> str:
    told = failure_by_status(status)
    if told is not None:
        return f"ended of {told.value.replace('_', ' ')}, and could leave no other word"
    if status <= 128:
        return f"left with status {status} and no word"
    number = status - 128
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"was killed ({name})" if number == signal.SIGKILL else f"crashed ({name})"


def _hang(evidence: Evidence) -> Diagnosis | None:
    """Ranks that waited too long, and the one that they waited for where it shows."""
    # srun's SIGCONT at the end of the step wakes a rank that was stopped; its alarm ends it before it can dump.
    dumped = set(evidence.dumped) or {end.rank for end in evidence.exits if end.status == HUNG_STATUS}
    if not dumped:
        return None
    # Who is stopped, or stuck in the kernel, is the one whose watchdog never spoke. One that died first is no hang.
    spoke = {*dumped, *(word.rank for word in evidence.words)}
    first = evidence.exits[0] if evidence.exits else None
    if first is not None and first.rank not in spoke and first.status != TERMINATED:
        return None
    silent = [end for end in evidence.exits if end.rank not in spoke]
    places = {end.node for end in silent}
    reason = f"{len(dumped)} of {evidence.world_size} ranks waited too long; their stacks are in the attempt's folder"
    if len(places) == 1:
        ranks = ", ".join(str(end.rank) for end in silent)
        reason = f"rank{'s'[: len(silent) - 1]} {ranks} on {_place(silent[0])} stopped answering, and {reason}"
    return Diagnosis(
        state=Ending.failed,
        failure=FailureClass.hang,
        reason=reason,
        # Silent ranks on several nodes: which of them was waited for does not show.
        node=one_node(silent[0].node) if len(places) == 1 else None,
        rank=silent[0].rank if len(silent) == 1 else None,
    )


def _told_at_start(evidence: Evidence) -> Iterator[Diagnosis]:
    """Told to leave before the ranks could take the signal."""
    if any(end.status == TERMINATED for end in evidence.exits):
        reason = "told to leave (SIGTERM) before the ranks had started"
        yield Diagnosis(state=Ending.stopped, failure=FailureClass.preempted, reason=reason)


def _nobody_lived(evidence: Evidence) -> Diagnosis:
    reason = f"{evidence.first_node}, or the job's own process there, died: nobody lived to say how the attempt ended"
    return Diagnosis(state=Ending.failed, failure=FailureClass.node_failure, reason=reason, node=evidence.first_node)


def _silent(evidence: Evidence) -> Diagnosis:
    missing = evidence.world_size - len(evidence.words)
    reason = f"{missing} of {evidence.world_size} ranks ended without a word, with exit code {evidence.exit_code}"
    return Diagnosis(state=Ending.failed, failure=FailureClass.lost_process, reason=reason)
