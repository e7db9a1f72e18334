"""Faults from outside a run, done while one of its ranks stands still before a step, or between two attempts."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

from launcher.checkpoint.manifest import committed_steps, step_folder
from tests.faults import processes
from tests.faults.cluster import NotDoneError, TrialError, wait
from tests.faults.damage import MARKER
from tests.faults.scene import Scene

SIGNAL_S = 120.0
"""Slurm looks at time limits every half minute, and warns up to a minute early."""
PREEMPTED_S = 40.0
PREEMPTORS = 3
NODE_LOST_S = 90.0
FULL_S = 8.0
"""How long a disk stays full."""


def kill_srun(scene: Scene) -> None:
    """srun dies; the tasks that it started do not."""
    processes.send(signal.SIGKILL, *processes.srun_pids(scene.faults))
    scene.go_on()


def stop_other(scene: Scene) -> None:
    """Another rank than the one at the breakpoint stops, wherever it is."""
    other = processes.rank_pid(scene.faults, 1 - scene.rank)
    assert other is not None, "both ranks were there"
    scene.blamed = processes.node_of(other)
    processes.send(signal.SIGSTOP, other)
    scene.go_on()


def _until_told(scene: Scene, *numbers: signal.Signals, within_s: float = SIGNAL_S) -> None:
    """Until Slurm's signal has come to the rank: it waits for it, or has woken it already."""
    assert scene.pid is not None, "a rank stands still"
    pid = scene.pid
    wait(
        lambda: not scene.stands() or any(processes.is_pending(pid, number) for number in numbers),
        "Slurm's signal",
        within_s,
    )
    scene.go_on()


def preempt(scene: Scene) -> None:
    """A job of higher priority takes the nodes, and gives them back once the run has left.

    A stopped rank that was sent no signal has ignored none, so another is sent after one that waits in vain.
    NotDoneError where all of them do.
    """
    for _ in range(PREEMPTORS):
        job = scene.cluster.preempt(scene.cluster.nodes_of(scene.job_id))
        try:
            _until_told(scene, signal.SIGTERM, within_s=PREEMPTED_S)
        except TrialError:
            scene.notes.append(f"no preemption within {PREEMPTED_S:.0f} s: {scene.cluster.seen()}")
            scene.cluster.cancel(job)
        else:
            scene.mend.append(functools.partial(scene.cluster.cancel, job))
            return
    raise NotDoneError(f"Slurm began none of {PREEMPTORS} preemptions")


def requeue(scene: Scene) -> None:
    """Somebody requeues the job."""
    scene.cluster.call("scontrol", "requeue", scene.job_id)
    _until_told(scene, signal.SIGTERM)


def time_limit(scene: Scene) -> None:
    """The job's time is nearly up."""
    job = scene.job_id
    scene.cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    scene.mend.append(lambda: _give_time(scene, job))
    _until_told(scene, signal.SIGUSR2, signal.SIGTERM)


def _give_time(scene: Scene, job: str) -> None:
    with contextlib.suppress(TrialError):
        scene.cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=30")


def restart_slurmd(scene: Scene) -> None:
    """A node's daemon dies and comes back before Slurm misses it: nobody's business."""
    assert scene.pid is not None, "a rank stands still"
    node = processes.node_of(scene.pid)
    assert node is not None, "a rank is on a node"
    with scene.cluster.steady:
        scene.cluster.kill(f"slurmd-{node}")
        time.sleep(0.5)
        scene.cluster.start_node(node)
    scene.go_on()


def node_dies(scene: Scene) -> None:
    """A node with all that runs on it; it is back once the run has gone on without it.

    Slurm keeps what it could not tell a dead node, such as the end of the job there, and tells it on its return; that
    would end the next attempt if it ran on that node by then.
    """
    assert scene.pid is not None, "a rank stands still"
    node, job = processes.node_of(scene.pid), scene.job_id
    assert node is not None, "a rank is on a node"
    scene.notes.append(f"{node} dies")
    scene.cluster.kill(f"slurmd-{node}")
    tasks = processes.of_trial(scene.faults, SLURMD_NODENAME=node)
    # First who would tell Slurm of it.
    processes.send(signal.SIGKILL, *processes.step_daemons(tasks), *tasks)

    def noticed() -> bool:
        queued = scene.cluster.queued(job)
        return queued is None or queued.state == "PENDING" or "DOWN" in scene.cluster.node_state(node)

    scene.once_it_goes_on.append(functools.partial(_bring_back, scene, node))
    wait(noticed, f"Slurm has not missed {node}", NODE_LOST_S, every_s=0.5)


def _bring_back(scene: Scene, node: str) -> None:
    with scene.cluster.steady:
        scene.cluster.start_node(node)


SAVED_S = 6.0
"""Longer than slurmctld takes to write down its jobs."""


def rank_dies_without_controller(scene: Scene) -> None:
    """A rank dies while slurmctld is away."""
    assert scene.pid is not None, "a rank stands still"
    with scene.cluster.steady:
        # A job that it was told of a moment ago, and has not saved, it would forget; that is Slurm's, not the run's.
        time.sleep(SAVED_S)
        scene.cluster.kill("slurmctld")
        processes.send(signal.SIGKILL, scene.pid)
        time.sleep(3)
        scene.cluster.start_controller()


def fill_disk(scene: Scene) -> None:
    """The file system of the run takes no more, and then does again."""
    ballast = scene.run.root.parent / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(os.urandom(size))
    scene.go_on()
    deadline = time.monotonic() + scene.chance.uniform(1.0, FULL_S)
    while time.monotonic() < deadline and scene.cluster.queued(scene.job_id) is not None:
        time.sleep(0.1)
    ballast.unlink()


def two_controllers(scene: Scene) -> None:
    """The user cancels, and then two of them resume at once: one job carries the run."""
    name = scene.run.root.name
    scene.bench.run("cancel", name)
    scene.go_on()
    wait(lambda: _status(scene) == "CANCELLED" and _left(scene), "the cancel", SIGNAL_S)
    with scene.cluster.steady:
        both = [scene.bench.popen("resume", name) for _ in range(2)]
        answers = [(process, *process.communicate()) for process in both]
    codes = sorted(process.returncode for process, _, _ in answers)
    if codes != [0, 2]:
        words = " | ".join(errors.strip()[-200:] for _, _, errors in answers)
        scene.wrong.append(f"two resumes at once ended with {codes}: {words}")
    jobs = scene.cluster.jobs_named(name)
    if len(jobs) > 1:
        scene.wrong.append(f"{len(jobs)} jobs carry the run: {', '.join(jobs)}")


def _status(scene: Scene) -> str:
    answer = scene.bench.run("status", scene.run.root.name, "--json")
    return str(json.loads(answer.stdout)["state"])


def _left(scene: Scene) -> bool:
    return scene.cluster.queued(scene.job_id) is None


def damaged(harm: Callable[..., str]) -> Callable[[Scene], None]:
    """The newest committed checkpoint is harmed while the job waits; the run has to pass over it."""

    def act(scene: Scene) -> None:
        scene.damaged_step = _harm_newest(scene, harm)

    return act


def forged(harm: Callable[..., str]) -> Callable[[Scene], None]:
    """The same, in a way that no hash tells: the run may refuse to start until its user removes the checkpoint."""

    def act(scene: Scene) -> None:
        step = _harm_newest(scene, harm)
        if step is not None:
            scene.by_user.append(lambda: shutil.rmtree(step_folder(scene.run.checkpoints, step)))

    return act


def _harm_newest(scene: Scene, harm: Callable[..., str]) -> int | None:
    steps = committed_steps(scene.run.checkpoints)
    if not steps:
        scene.notes.append("there was no checkpoint to harm")
        return None
    words = harm(step_folder(scene.run.checkpoints, steps[-1]), scene.chance)
    scene.notes.append(f"step {steps[-1]}: {words}")
    return steps[-1]


def hostile_code_ran(scene: Scene) -> bool:
    """Whether a pickle that was put in a checkpoint's place has been let do its work."""
    return (scene.run.root / MARKER).exists()


def unmount(folder: os.PathLike[str]) -> None:
    """Take a small disk away again."""
    subprocess.run(["umount", "--lazy", folder], check=False)
