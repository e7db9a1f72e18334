"""What a fault has in its hands when it strikes from outside: the run, its job, the rank that stands still."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from launcher.rundir import RunDir
from launcher.runs.job import read_job
from tests.faults import processes
from tests.faults.cluster import Cluster
from tests.workbench import Bench


@dataclass(kw_only=True, slots=True)
class Scene:
    """One fault in one run."""

    cluster: Cluster
    """The Slurm that runs it."""
    bench: Bench
    """For the launcher's verbs, in the run's environment."""
    run: RunDir
    """The run."""
    chance: random.Random
    """The trial's own."""
    faults: str
    """The trial's folder of faults, by which its processes are known."""
    rank: int
    """Rank that is struck."""
    pid: int | None = None
    """Its process, where it stands still."""
    blamed: str | None = None
    """Node that the outcome has to name."""
    damaged_step: int | None = None
    """Step whose checkpoint was damaged."""
    notes: list[str] = field(default_factory=list)
    """What was done, for whoever repeats it."""
    wrong: list[str] = field(default_factory=list)
    """What the fault itself saw go wrong."""
    mend: list[Callable[[], None]] = field(default_factory=list)
    """What has to be put right once the attempt has ended."""
    once_it_goes_on: list[Callable[[], None]] = field(default_factory=list)
    """What has to be put right once the next attempt has begun, or none will."""
    by_user: list[Callable[[], None]] = field(default_factory=list)
    """What the user does before resuming."""

    @property
    def job_id(self) -> str:
        """The job that carries the run now."""
        job = read_job(self.run)
        assert job is not None, "it was submitted"
        return job.job_id

    def go_on(self) -> None:
        """The rank that stood still goes on."""
        if self.pid is not None:
            processes.send(signal.SIGCONT, self.pid)

    def stands(self) -> bool:
        """Whether the rank stands still."""
        return self.pid is not None and processes.state(self.pid) == "T"
