"""Does a profile fit what Slurm says of the cluster? Each check is a generator over one concern.

The last word is Slurm's own: it is asked whether it would take a job as the profile asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.cluster.facts import Facts, Node, Partition
from launcher.cluster.findings import Finding, Level
from launcher.cluster.slurm import refusal
from launcher.config.cluster import Accelerator, ClusterConfig, GpuRequest
from launcher.plan.slurm import check_job_parameters
from launcher.rundir import CheckDir
from launcher.slurm_commands import call

OK, WARNING, FAULT = Level.ok, Level.warning, Level.fault


def check(facts: Facts, cluster: ClusterConfig, runs_root: Path) -> Iterator[Finding]:
    """Everything about the profile that Slurm can tell."""
    yield Finding(OK, f"Slurm {facts.version} answers for cluster {facts.cluster}")
    partition = facts.partition(cluster.partition)
    if partition is None:
        names = ", ".join(one.name for one in facts.partitions)
        missing = "there is no default partition" if cluster.partition is None else f"no partition {cluster.partition}"
        yield Finding(FAULT, missing, f"write cluster.partition=NAME: {names}")
    else:
        yield from _partition(partition, cluster)
        yield from _nodes(partition, cluster)
        yield from _booking(partition, facts, cluster)
    if facts.counts_memory and cluster.node_memory_gb is None:
        remedy = "write cluster.mem_gb_per_gpu=N, or a job may get little"
        yield Finding(WARNING, "Slurm hands out memory here, and the profile asks for none", remedy)
    if cluster.accelerator is Accelerator.auto:
        told = "cluster.accelerator=auto: on a node whose GPUs fail, ranks would train on its CPUs"
        yield Finding(WARNING, told, "write accelerator: cuda once --job has seen the GPUs")
    yield _accounting(facts)
    yield _taken(cluster, runs_root)


def _partition(partition: Partition, cluster: ClusterConfig) -> Iterator[Finding]:
    name, limit, most = partition.name, partition.max_time_min, partition.max_nodes
    usable = [node for node in partition.nodes if node.usable]
    if not partition.up:
        yield Finding(FAULT, f"partition {name} takes no jobs at present", "ask your site, or name another")
    elif len(usable) < cluster.nodes:
        told = f"partition {name} has {len(usable)} nodes in service, and the profile asks for {cluster.nodes}"
        yield Finding(FAULT, told, "write a smaller cluster.nodes, or wait")
    else:
        yield Finding(OK, f"partition {name} is up: {len(usable)} of {len(partition.nodes)} nodes in service")
    for key, minutes in (("time_min", cluster.time_min), ("max_time_min", cluster.max_time_min)):
        if limit is not None and minutes is not None and minutes > limit:
            told = f"cluster.{key}={minutes} is longer than partition {name} allows ({limit} min)"
            yield Finding(FAULT, told, f"write cluster.{key}={limit}")
    if limit is None or cluster.time_min <= limit:
        allowed = "no limit" if limit is None else f"{limit} min"
        yield Finding(OK, f"a run may take cluster.time_min={cluster.time_min} min (partition: {allowed})")
    if most is not None and cluster.nodes > most:
        yield Finding(FAULT, f"cluster.nodes={cluster.nodes} is more than {most}", f"write cluster.nodes={most}")


def _nodes(partition: Partition, cluster: ClusterConfig) -> Iterator[Finding]:
    """Nodes that could carry the job, and what the others lack."""
    names = {node.name for node in partition.nodes}
    features = {feature for node in partition.nodes for feature in node.features}
    for word in re.findall(r"[\w.:-]+", re.sub(r"\*\d+", "", cluster.constraint or "")):
        if word not in features:
            known = ", ".join(sorted(features)) or "none"
            yield Finding(FAULT, f"no node of {partition.name} has the feature {word}", f"cluster.constraint: {known}")
    for word in re.split(r",(?![^[]*\])", cluster.exclude or ""):
        if word and "[" not in word and word not in names:
            yield Finding(WARNING, f"cluster.exclude names {word}, which is no node of {partition.name}")
    lacking = {node.name: why for node in partition.nodes if (why := _lacks(node, cluster))}
    fit = len(names) - len(lacking)
    asked = f"{cluster.gpus_per_node} GPUs" + (f" of type {cluster.gpu_type}" if cluster.gpu_type else "")
    if fit >= cluster.nodes:
        yield Finding(OK, f"{fit} nodes have {asked}, and the CPU cores and memory that go with them")
    elif lacking:
        name, why = next(iter(lacking.items()))
        yield Finding(FAULT, f"{fit} nodes have what the profile asks for; {name}, say, has {why}", "lower those keys")


def _lacks(node: Node, cluster: ClusterConfig) -> str:
    """What the node has too little of; empty if it has all."""
    if cluster.gpu_request is not GpuRequest.none:
        kinds = node.gpus if cluster.gpu_type is None else {cluster.gpu_type: node.gpus.get(cluster.gpu_type, 0)}
        if sum(kinds.values()) < cluster.gpus_per_node:
            has = ", ".join(f"{count} of {kind or 'no type'}" for kind, count in node.gpus.items()) or "none"
            return f"GPUs: {has} (cluster.gpus_per_node={cluster.gpus_per_node}, cluster.gpu_type={cluster.gpu_type})"
    if (cluster.cpus_per_gpu or 0) * cluster.gpus_per_node > node.cpus:
        return f"{node.cpus} CPUs (cluster.cpus_per_gpu={cluster.cpus_per_gpu})"
    if (cluster.node_memory_gb or 0) > node.memory_gb:
        return f"{node.memory_gb} GB of memory (the profile asks for {cluster.node_memory_gb})"
    return ""


def _booking(partition: Partition, facts: Facts, cluster: ClusterConfig) -> Iterator[Finding]:
    for key, value, allowed in (
        ("account", cluster.account, partition.accounts),
        ("qos", cluster.qos, partition.qos),
    ):
        if allowed is not None and value is not None and value not in allowed:
            told = f"cluster.{key}={value} may not use partition {partition.name}"
            yield Finding(FAULT, told, f"write cluster.{key}=NAME: {', '.join(allowed)}")
    if cluster.wckey is None and "wckeys" in facts.enforced:
        remedy = "write cluster.wckey=NAME unless you have a default one: `sacctmgr show wckey`"
        yield Finding(WARNING, "this cluster books by workload key, and the profile names none", remedy)


def _accounting(facts: Facts) -> Finding:
    if not facts.accounting:
        return Finding(OK, "there is no accounting; what became of a run is read from its directory")
    works = call("sacct", "--noheader", "--allocations", "--format=JobID").returncode == 0
    return Finding(OK, "accounting answers") if works else Finding(WARNING, "accounting does not answer (sacct)")


def _taken(cluster: ClusterConfig, runs_root: Path) -> Finding:
    folder = CheckDir(runs_root / ".doctor")
    parameters = check_job_parameters(replace(cluster, prologue=None), folder, cluster.nodes, cluster.time_min)
    why = refusal(parameters, folder.submission)
    if why is None:
        return Finding(OK, "sbatch would take a job as the profile asks for it (--test-only)")
    return Finding(FAULT, f"sbatch would refuse a job as the profile asks for it: {why}", "mend the keys it speaks of")


def associations(user: str) -> Sequence[tuple[str, str]]:
    """Accounts of the user, each with its default quality of service; none where there is no accounting."""
    found = call("sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={user}", "format=Account,DefaultQOS")
    if found.returncode != 0:
        return []
    pairs = [line.split("|") for line in found.stdout.splitlines() if line.count("|") == 1]
    return [(account, qos) for account, qos in pairs if account]
