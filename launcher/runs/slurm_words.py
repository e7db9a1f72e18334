"""What Slurm and srun print about an attempt, read as facts. Pure; what follows from a fact is `runs.diagnosis`.

A batch file collects the lines of the job, of its steps and of srun, and most of them tell of consequences: once a
rank has left with an error, srun ends the step, and every other rank is "Killed".
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from launcher.failures import FailureClass

TERMINATED, KILLED = 128 + signal.SIGTERM, 128 + signal.SIGKILL
"""How ranks end that Slurm ends: first asked, then forced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankExit:
    """A bad exit, in the words of srun or of the local job."""

    rank: int
    """Global rank."""
    node: str
    """Where it ran; a host list such as `n[1-2]` where srun told of several ranks at once."""
    status: int
    """Exit status; 128 + N for signal N."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmWord:
    """Slurm's own explanation of an end."""

    failure: FailureClass | None
    """Its class; None for an end that somebody asked for."""
    reason: str
    """In our words."""
    node: str | None = None
    """The one node that it names."""


HOSTS = r"[\w.,\[\]-]+"
EXIT_LINE = re.compile(
    rf"^srun: error: (?P<node>{HOSTS}): tasks? (?P<tasks>[\d,-]+): (?P<how>.+?)(?: \(core dumped\))?\s*$", re.MULTILINE
)
STATUS_OF = {
    # srun words a signal as strsignal does.
    **{str(signal.strsignal(number)): 128 + number for number in signal.valid_signals()},
    "Out Of Memory": KILLED,
}


def one_node(hosts: str | None) -> str | None:
    """The node that a host list names, if it is no more than one."""
    return hosts if hosts and not set(hosts) & set("[],") else None


def srun_exits(said: str) -> list[RankExit]:
    """The bad exits that srun told, in its order."""
    return [
        RankExit(rank=rank, node=line["node"], status=status)
        for line in EXIT_LINE.finditer(said)
        if (status := _status(line["how"]))
        for rank in _ranks(line["tasks"])
    ]


def _status(how: str) -> int:
    code = re.match(r"Exited with exit code (\d+)", how)
    return int(code.group(1)) if code else STATUS_OF.get(how, 0)


def _ranks(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


LOST_NODE = re.compile(rf"(?:Node failure on|Task launch for \S+ failed on node) (?P<node>{HOSTS})")
"""The lines that name the node. "STEP 1.0 ON n1 CANCELLED … DUE TO NODE FAILURE" names a node that lives to say so."""


def lost_node(said: str) -> SlurmWord | None:
    """Slurm's word that a node died or could not start its ranks."""
    named = LOST_NODE.search(said)
    if named:
        hosts = named["node"].rstrip(".,")
        return SlurmWord(failure=FailureClass.node_failure, reason=f"Slurm lost a node ({hosts})", node=one_node(hosts))
    if "DUE TO NODE FAILURE" in said:
        return SlurmWord(failure=FailureClass.node_failure, reason="Slurm lost a node, and did not say which")
    return None


NOT_STARTED = re.compile(
    r"^srun: error: (?:Unable to (?:create|confirm|allocate).*|.*Socket timed out.*)$", re.MULTILINE
)


def ranks_not_started(said: str) -> SlurmWord | None:
    """srun's word that it could not start the ranks: a controller that has just been restarted, most often."""
    found = NOT_STARTED.search(said)
    if found is None or srun_exits(said):
        return None
    reason = f"the ranks were not started: {found.group(0).removeprefix('srun: error: ')}"
    return SlurmWord(failure=FailureClass.communication, reason=reason)


ENDS = (
    ("DUE TO TIME LIMIT", FailureClass.time_limit, "Slurm ended the job at its time limit"),
    ("DUE TO PREEMPTION", FailureClass.preempted, "preempted, with no time left to write a checkpoint"),
    ("DUE TO JOB REQUEUE", FailureClass.preempted, "requeued by an administrator or by Slurm"),
    # A step is cancelled so whenever srun gives up on it; a job only by scancel.
    (
        r"\*\*\* JOB \S+ ON \S+ CANCELLED AT \S+(?: DUE to SIGNAL \w+)? \*\*\*",
        None,
        "cancelled with scancel, which leaves no time for a checkpoint; `launcher cancel` does",
    ),
)
"""How Slurm ends a whole job."""


def ended_by_slurm(said: str) -> SlurmWord | None:
    """Slurm's word that it ended the job, if no rank had gone wrong by itself before."""
    for pattern, failure, reason in ENDS:
        found = re.search(pattern, said)
        # The ranks that Slurm ends can be told of before the job is.
        before = srun_exits(said[: found.start()]) if found else []
        if found and all(end.status in (TERMINATED, KILLED) for end in before):
            return SlurmWord(failure=failure, reason=reason)
    return None


NO_MEMORY = re.compile(r"oom[-_ ]kill|: Out Of Memory|exceeded (?:job |step )?memory limit", re.IGNORECASE)
TOLD_BY = re.compile(rf"^(?:slurmstepd-|srun: error: )(?P<node>{HOSTS}):")


def killed_for_memory(said: str) -> SlurmWord | None:
    """Slurm's word that the kernel, or Slurm itself, killed a process for its memory."""
    lines = [line for line in said.splitlines() if NO_MEMORY.search(line)]
    if not lines:
        return None
    tellers = (TOLD_BY.match(line) for line in lines)
    node = next((one_node(teller["node"]) for teller in tellers if teller), None)
    where = "" if node is None else f" on {node}"
    return SlurmWord(
        failure=FailureClass.out_of_host_memory,
        reason=f"a process{where} was killed for want of host memory",
        node=node,
    )
