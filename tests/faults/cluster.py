"""A private Slurm for the trials: brought up, broken in parts, mended, taken down. Knows no run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import processes

DEVCLUSTER = Path(__file__).resolve().parents[2] / "slurm" / "devcluster"
NODES_PER_WORKER = 4
"""Two for a run, and two more for when its nodes are avoided."""
GPUS_PER_NODE = 32
"""A trial takes one; the others are for those that Slurm loses count of (see `preempt`)."""
ANSWER_S = 60.0
"""How long a controller that is being restarted is waited for."""
LOOK_EVERY_S = 0.15


class TrialError(Exception):
    """A trial could not be carried out, or did not get where it should."""


class NotDoneError(TrialError):
    """Slurm was asked for what was to befall the run, and did not do it: that says nothing about the run."""


def wait(condition: Callable[[], bool], what: str, timeout_s: float, every_s: float = 0.05) -> None:
    """Until `condition` holds; TrialError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TrialError(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """A job as squeue tells it."""

    state: str
    """RUNNING, PENDING, COMPLETING, …"""
    reason: str
    """Why it waits."""


class Cluster:
    """slurm/devcluster in a folder of its own."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.nodes = NODES_PER_WORKER * workers
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.steady = threading.Lock()
        """Held while a daemon is away for a moment, and while something needs them all."""
        self.restarts: list[float] = []
        """When slurmctld was back again; it may have been another run's fault."""
        self._lock = threading.Lock()
        self._queue: dict[str, Queued] = {}
        self._looked = 0.0

    def up(self) -> None:
        """Start it, or what is dead of it (slurmd only)."""
        self._devcluster("up", "--nodes", str(self.nodes), "--gpus", str(GPUS_PER_NODE))

    def down(self) -> None:
        """End it, with all its jobs."""
        self._devcluster("down")

    def _devcluster(self, verb: str, *options: str) -> None:
        command = [str(DEVCLUSTER), verb, "--dir", str(self.folder), *options]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise TrialError(f"devcluster {verb}: {result.stderr.strip()[-500:]}")

    def call(self, *command: str, retry: bool = True) -> str:
        """What a Slurm command prints; a controller that is away is waited for. TrialError if it refuses."""
        deadline = time.monotonic() + ANSWER_S
        while True:
            environment = {**os.environ, **self.environment}
            result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if result.returncode == 0:
                return result.stdout
            away = re.search(r"contact|connect|timed out|Zero Bytes", result.stderr, re.IGNORECASE)
            if not (away and retry) or time.monotonic() > deadline:
                raise TrialError(f"{' '.join(command)}: {result.stderr.strip()[-300:]}")
            time.sleep(0.5)

    def queued(self, job_id: str) -> Queued | None:
        """The job's place in the queue, as of a moment ago; None if it has left."""
        return self.queue().get(job_id)

    def look_anew(self) -> None:
        """What was seen of the queue does not count any more: a job has come to it."""
        with self._lock:
            self._looked = 0.0

    def queue(self) -> dict[str, Queued]:
        """All jobs; one squeue serves all trials."""
        with self._lock:
            if time.monotonic() - self._looked > LOOK_EVERY_S:
                lines = self.call("squeue", "--noheader", "--format=%i|%T|%r").splitlines()
                rows = [line.strip().split("|") for line in lines]
                self._queue = {job: Queued(state=state, reason=reason) for job, state, reason in rows}
                self._looked = time.monotonic()
            return self._queue

    def jobs_named(self, name: str) -> list[str]:
        """Jobs of that name which have not left the queue."""
        return self.call("squeue", "--noheader", "--format=%i", f"--name={name}").split()

    def start_now(self, job_id: str) -> None:
        """A requeued job's time is put forward: how long Slurm holds it back is of no interest here."""
        try:
            self.call("scontrol", "update", f"JobId={job_id}", "StartTime=now")
        except TrialError:
            # It has started by itself.
            return

    def nodes_of(self, job_id: str) -> list[str]:
        """Nodes of a running job, by rank."""
        found = re.search(r"\bNodeList=(\S+)", self.call("scontrol", "show", "job", job_id))
        return self.call("scontrol", "show", "hostnames", found.group(1)).split() if found else []

    def preempt(self, nodes: Sequence[str]) -> str:
        """A job of higher priority that wants all processors of these nodes.

        Not `--exclusive`, which would want all their GPUs as well: Slurm 22.05 goes on counting those of a job that ran
        while slurmctld was restarted, and waits for them for ever.
        """
        where = [f"--nodelist={','.join(nodes)}", f"--nodes={len(nodes)}", "--partition=high"]
        wanted = ["--ntasks-per-node=1", f"--cpus-per-task={self._processors(nodes[0])}"]
        words = self.call(
            "sbatch", "--parsable", "--job-name=preemptor", "--output=/dev/null", *where, *wanted, "--wrap=sleep 90"
        )
        return words.strip()

    def _processors(self, node: str) -> int:
        found = re.search(r"\bCPUTot=(\d+)", self.call("scontrol", "show", "node", node))
        assert found is not None, "Slurm tells it of every node"
        return int(found.group(1))

    def cancel(self, job_id: str) -> None:
        """Withdraw a job."""
        self.call("scancel", job_id)

    def seen(self) -> str:
        """What Slurm says of its jobs and nodes, for whoever asks why nothing happens."""
        try:
            jobs = self.call("squeue", "--noheader", "--format=%i %j %T %r", retry=False)
            nodes = self.call("sinfo", "--noheader", "--format=%N %T %E", retry=False)
        except TrialError as error:
            return str(error)
        return "; ".join(line.strip() for line in (*jobs.splitlines(), *nodes.splitlines()))

    def daemon_pid(self, name: str) -> int:
        """Process of `slurmctld` or `slurmd-nK`."""
        return int((self.folder / "run" / f"{name}.pid").read_text())

    def kill(self, name: str) -> None:
        """A daemon dies."""
        processes.send(signal.SIGKILL, self.daemon_pid(name))

    def start_controller(self) -> None:
        """slurmctld after a kill, from the state it saved."""
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", **self.environment}
        configuration = self.environment["SLURM_CONF"]
        log = self.folder / "log" / "slurmctld.out"
        with log.open("a") as output:
            subprocess.run(
                ["slurmctld", "-f", configuration], env=environment, check=True, stdout=output, stderr=output, cwd="/"
            )
        wait(self._answers, "the controller", ANSWER_S)
        self.restarts.append(time.time())

    def start_node(self, node: str) -> None:
        """A node's slurmd after a kill, and no other's: another trial's node may have to stay away."""
        configuration = self.environment["SLURM_CONF"]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", **self.environment}
        with (self.folder / "log" / f"slurmd-{node}.out").open("a") as output:
            command = ["slurmd", "-f", configuration, "-N", node]
            subprocess.run(command, env=environment, check=True, stdout=output, stderr=output, cwd="/")
        wait(lambda: self._is_up(node), f"node {node} is back", ANSWER_S, every_s=0.2)

    def _is_up(self, node: str) -> bool:
        state = self.node_state(node)
        return not re.search(r"DOWN|\*|NOT_RESPONDING|UNKNOWN", state)

    def _answers(self) -> bool:
        try:
            return "UP" in self.call("scontrol", "ping", retry=False)
        except TrialError:
            return False

    def node_state(self, node: str) -> str:
        """IDLE, DOWN, …"""
        found = re.search(r"\bState=(\S+)", self.call("scontrol", "show", "node", node))
        return found.group(1) if found else ""

    def expand(self, nodes: str) -> list[str]:
        """The names in `n[1-2]`."""
        found = re.fullmatch(r"n\[?([\d,-]+)\]?", nodes)
        parts = found.group(1).split(",") if found else []
        spans = [part.partition("-") for part in parts]
        return [f"n{number}" for first, _, last in spans for number in range(int(first), int(last or first) + 1)]
