"""A small job that goes the way of a run, to see whether a cluster would carry one. Leaves nothing of itself behind."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from launcher.cluster.findings import Finding, Level
from launcher.cluster.protocol import Job, QueueState
from launcher.cluster.slurm import SlurmExecutor, answer, submit_check_job
from launcher.config.cluster import Accelerator, ClusterConfig
from launcher.config.survival import HealthConfig
from launcher.errors import ClusterError
from launcher.plain import plain
from launcher.plan.slurm import check_job_parameters
from launcher.publish import publish_json, publish_text
from launcher.rundir import CheckDir
from launcher.runs.freeze import snapshot
from launcher.secrets import redacted

POLL_S = 1.0
LIMIT_MIN = 10
MOST_LINES = 6
SETTLE_S = 5.0
"""How long a file may take to be seen from another machine."""
NEAR = 0.03
"""A GPU shows a little less memory than its name says."""


def check_job(
    cluster: ClusterConfig,
    health: HealthConfig,
    runs_root: Path,
    *,
    nodes: int,
    wait_s: float,
    say: Callable[[str], None],
) -> tuple[list[Finding], dict[str, Any] | None]:
    """Run it on so many nodes; what it found, and its own words. ClusterError where Slurm does not take it.

    Waits for so long at most, and then takes it back.
    """
    runs_root.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = CheckDir(runs_root / f".doctor-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    folder.root.mkdir(mode=0o700)
    job: Job | None = None
    try:
        snapshot(folder.code)
        publish_json(folder.request, {"accelerator": cluster.accelerator.value, "health": plain(health)})
        if cluster.prologue is not None:
            publish_text(folder.prologue, Path(cluster.prologue).read_text(encoding="utf-8"))
        limit = LIMIT_MIN if cluster.max_time_min is None else min(LIMIT_MIN, cluster.max_time_min)
        job_id = submit_check_job(check_job_parameters(cluster, folder, nodes, limit), folder)
        job = Job(kind="slurm", job_id=job_id, host=socket.gethostname(), submission=1)
        say(f"job {job_id} on {nodes} nodes is queued; it waits {wait_s / 60:g} min at most")
        return _awaited(cluster, folder, job, wait_s)
    finally:
        if job is not None and _state(job) is not QueueState.gone:
            answer("scancel", job.job_id)
        shutil.rmtree(folder.root, ignore_errors=True)


def _state(job: Job) -> QueueState:
    try:
        return SlurmExecutor().state(job)
    except ClusterError:
        return QueueState.running


def _awaited(
    cluster: ClusterConfig, folder: CheckDir, job: Job, wait_s: float
) -> tuple[list[Finding], dict[str, Any] | None]:
    deadline = time.monotonic() + wait_s
    while not folder.results.exists():
        state = _state(job)
        if state is QueueState.gone:
            settled = time.monotonic() + SETTLE_S
            while not folder.results.exists() and time.monotonic() < settled:
                time.sleep(POLL_S)
            if not folder.results.exists():
                return [_dead(folder, job)], None
        elif time.monotonic() > deadline:
            why = answer("squeue", "--noheader", "--format=%r", f"--jobs={job.job_id}").strip()
            what = f"job {job.job_id} still {state.value} ({why or 'no reason given'}); it was taken back"
            return [Finding(Level.fault, what, "try again later, with --wait-min, or another cluster.partition")], None
        else:
            time.sleep(POLL_S)
    document: dict[str, Any] = json.loads(folder.results.read_text(encoding="utf-8"))
    return list(judge(cluster, document)), document


def _dead(folder: CheckDir, job: Job) -> Finding:
    """The job's last words."""
    lines: list[str] = []
    for log in sorted(folder.submission.glob("*.out")):
        lines += [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    words = redacted("\n        ".join(list(dict.fromkeys(line for line in lines if line))[-MOST_LINES:]))
    said = f"its last words:\n        {words}" if words else "without a word: its nodes may not see runs_root"
    remedy = "a run of this profile would end likewise: mend what it speaks of"
    return Finding(Level.fault, f"job {job.job_id} ended before its ranks had met, {said}", remedy)


def judge(cluster: ClusterConfig, document: dict[str, Any]) -> Iterator[Finding]:
    """What to make of the job's answer."""
    ranks = document["ranks"]
    firsts = {rank["node"]: rank for rank in ranks if "complaints" in rank}
    met = f"{len(ranks)} ranks on {', '.join(firsts)} met over {document['backend']}, and see this folder"
    yield Finding(Level.ok, met)
    for node, rank in firsts.items():
        for complaint in rank["complaints"]:
            yield Finding(Level.fault, f"node {node}: {complaint}", "a run would refuse this node: tell your site")
    yield from _devices(cluster, ranks)
    for what in ("torch", "python"):
        versions = sorted({rank[what] for rank in ranks})
        if len(versions) > 1:
            remedy = "all nodes must run the same environment: see cluster.software"
            yield Finding(Level.fault, f"nodes have different versions of {what}: {', '.join(versions)}", remedy)
    times = [rank["time"] for rank in ranks]
    yield Finding(Level.ok, f"their clocks agree within {max(times) - min(times):.2f} s")
    for mib, speed in document["bandwidth_gb_s"].items():
        if speed is not None:
            yield Finding(Level.ok, f"an all-reduce of {mib} MiB moves {speed:g} GB/s (bus bandwidth)")
    yield from _network(cluster, firsts)
    for name, why in ranks[0]["outside"].items():
        if why is None:
            yield Finding(Level.ok, f"{name} is reached from node {ranks[0]['node']}")
        else:
            remedy = "set cluster.proxy, or work offline"
            yield Finding(Level.warning, f"{name} is not reached from node {ranks[0]['node']} ({why})", remedy)


def _devices(cluster: ClusterConfig, ranks: list[dict[str, Any]]) -> Iterator[Finding]:
    gpus = sorted({(rank["gpu"], rank["gpu_memory_gb"]) for rank in ranks if "gpu" in rank})
    if not gpus:
        told = "ranks compute on CPUs: torch sees no GPU for each of them"
        level = Level.ok if cluster.accelerator is Accelerator.cpu else Level.warning
        yield Finding(
            level, told, "" if level is Level.ok else "check `nvidia-smi` on a node, and torch's CUDA version"
        )
        return
    for name, size_gb in gpus:
        yield Finding(Level.ok, f"GPUs: {name}, {size_gb:g} GiB")
        if cluster.gpu_memory_gb * (1 - NEAR) > size_gb:
            told = f"the profile says cluster.gpu_memory_gb={cluster.gpu_memory_gb:g}, and a GPU has {size_gb:g}"
            yield Finding(Level.fault, told, f"write gpu_memory_gb: {size_gb:g}")
    if cluster.accelerator is Accelerator.auto:
        yield Finding(Level.ok, "every rank has a GPU of its own: write accelerator: cuda into the profile")


def _network(cluster: ClusterConfig, firsts: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    wanted = [] if cluster.network_interface is None else cluster.network_interface.split(",")
    for node, rank in firsts.items():
        missing = [name for name in wanted if not any(has.startswith(name) for has in rank["interfaces"])]
        if missing:
            has = ", ".join(rank["interfaces"])
            yield Finding(Level.fault, f"node {node} has no interface {', '.join(missing)}", f"it has {has}")
    if not wanted:
        names = sorted({name for rank in firsts.values() for name in rank["interfaces"]})
        yield Finding(Level.ok, f"interfaces on the nodes: {', '.join(names) or 'none'} (cluster.network_interface)")
