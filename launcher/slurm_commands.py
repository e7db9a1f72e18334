"""The Slurm commands that a node and the submitting side both call. Knows no run.

Every command is an argument list; what Slurm answers is read as text, for not every site has its JSON.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime

TIMEOUT_S = 30
RETRY_EVERY_S = 5.0
GIVE_UP_S = 600.0
"""How long a controller that is being restarted is waited for."""


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one command; a missing one, or one that does not answer, is a failed one."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"there is no {command[0]} on this machine")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"{command[0]} gave no answer within {TIMEOUT_S} s")


def node_address(node: str) -> str:
    """An address at which other nodes reach `node`.

    Slurm's own address of a node works between nodes; its host name may not resolve, or resolve to loopback there.
    """
    found = re.search(r"\bNodeAddr=(\S+)", call("scontrol", "show", "node", node).stdout)
    return found.group(1) if found else node


def ends_at(job_id: str) -> float | None:
    """Unix time at which Slurm ends the job; None if it has no limit or Slurm does not say."""
    found = re.search(r"\bEndTime=(\S+)", call("scontrol", "show", "job", job_id).stdout)
    try:
        return datetime.fromisoformat(found.group(1)).timestamp() if found else None
    except ValueError:
        return None


def expand_nodes(text: str) -> list[str]:
    """The names in a host list such as `n[1-3]`."""
    answer = call("scontrol", "show", "hostnames", text)
    return answer.stdout.split() if answer.returncode == 0 else [text]


def requeue(
    job_id: str, restarts: int, exclude: Sequence[str], *, sleep: Callable[[float], None] = time.sleep
) -> str | None:
    """Put a running job back into the queue, without the nodes in `exclude`; the reason if that cannot be done.

    To be called from inside the job's start number `restarts`: Slurm then ends it. Does nothing if Slurm has put the
    job back by itself meanwhile, as it does when a node dies. A controller that does not answer is waited for.
    """
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        shown = call("scontrol", "show", "job", job_id)
        if _came_back(shown.stdout, restarts):
            break
        answer = shown if shown.returncode else call("scontrol", "requeue", job_id)
        if answer.returncode == 0 or "pending" in answer.stderr:
            break
        if time.monotonic() > deadline or not _unreachable(answer.stderr):
            return answer.stderr.strip() or f"scontrol requeue ended with {answer.returncode}"
        sleep(RETRY_EVERY_S)
    if exclude:
        # Allowed for a job that waits, not for one that runs.
        call("scontrol", "update", f"JobId={job_id}", f"ExcNodeList={','.join(exclude)}")
    return None


def _came_back(shown: str, restarts: int) -> bool:
    """Whether Slurm has put the job back by itself already."""
    found = re.search(r"\bRestarts=(\d+)", shown)
    return "JobState=PENDING" in shown or (found is not None and int(found.group(1)) > restarts)


def _unreachable(words: str) -> bool:
    return bool(re.search(r"contact|connect|timed out|no answer|Zero Bytes|not respond", words, re.IGNORECASE))


def usable_nodes(partition: str | None) -> set[str]:
    """Names of the nodes of a partition (the default one for None) that Slurm has not taken out of service."""
    where = [] if partition is None else [f"--partition={partition}"]
    lines = call("sinfo", "--noheader", "--Node", "--format=%N %t", *where).stdout.splitlines()
    pairs = [line.split() for line in lines if len(line.split()) == 2]
    return {name for name, state in pairs if not state.startswith(("down", "drain", "drng", "fail", "maint"))}
