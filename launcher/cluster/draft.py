"""A first profile of a cluster, from what Slurm says of it. Pure; what Slurm does not say is left open, and told."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.cluster.facts import Facts, Node, Partition
from launcher.cluster.findings import Finding, Level
from launcher.cluster.gpu_memory import sizes_gb
from launcher.config.cluster import ClusterConfig
from launcher.errors import NotFoundError, Problem, closest_first

OPEN = None
"""Stands where a person must write a value; whoever plans with the profile before is told which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A profile in the making."""

    values: dict[str, Any]
    """What it changes of the profile without opinions."""
    notes: dict[str, str]
    """A remark on some of the values, by key."""
    findings: list[Finding]
    """What the person who uses it should look at."""

    def text(self, facts: Facts) -> str:
        """The file."""
        lines = [
            f"# Cluster {facts.cluster}, as Slurm {facts.version} tells of it. `launcher doctor` wrote it.",
            "defaults: [slurm]",
        ]
        for key, value in self.values.items():
            if isinstance(value, dict):
                lines += [f"{key}:", *(f"  {name}: {_scalar(item)}" for name, item in value.items())]
            else:
                remark = f"  # {self.notes[key]}" if key in self.notes else ""
                lines.append(f"{key}: {_scalar(value)}{remark}")
        return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    """As YAML reads it back: JSON is YAML, and plain words need no quotes."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w-]*", value, re.ASCII)
    known = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
    return value if plain and value.lower() not in known else json.dumps(value)


def draft(
    facts: Facts, base: ClusterConfig, *, partition: str | None, associations: Sequence[tuple[str, str]]
) -> Draft:
    """A profile for `partition`, or for the one that suits best.

    `base` is the profile without opinions, `associations` the accounts of this user with their default quality of
    service. NotFoundError for a partition that is not there, or if none has GPUs.
    """
    chosen = _choose(facts, partition, associations)
    findings: list[Finding] = []
    notes: dict[str, str] = {}
    gpu_type, nodes = _largest_kind(chosen)
    gpus = Counter(node.gpus[gpu_type] for node in nodes).most_common(1)[0][0]
    alike = [node for node in nodes if node.gpus[gpu_type] == gpus]
    values: dict[str, Any] = {"partition": chosen.name, **_booking(chosen, facts, associations, findings)}
    if gpu_type:
        values["gpu_type"] = gpu_type
    values |= {"gpus_per_node": gpus, "gpu_memory_gb": _gpu_memory(gpu_type, alike, findings, notes)}
    values["accelerator"] = "auto"
    notes["accelerator"] = "write cuda once `launcher doctor NAME --job` has seen the GPUs: auto falls back to CPUs"
    values["cpus_per_gpu"] = max(1, min(node.cpus for node in alike) // gpus)
    memory_gb = min(node.memory_gb for node in alike)
    if facts.counts_memory and memory_gb >= gpus:
        values["mem_gb_per_gpu"] = memory_gb // gpus
    values |= _limits(chosen, base)
    values["data_job"] = _data_job(facts, chosen, alike, base)
    values["eval_job"] = _eval_job(chosen, values, base)
    kinds = sorted({kind or "of no type" for node in chosen.gpu_nodes for kind in node.gpus})
    if len(kinds) > 1:
        others = f"{chosen.name} has GPUs of several types ({', '.join(kinds)})"
        findings.append(
            Finding(Level.warning, others, f"the profile asks for {gpu_type or 'any'}: see cluster.gpu_type")
        )
    return Draft(values=values, notes=notes, findings=findings)


def _choose(facts: Facts, name: str | None, associations: Sequence[tuple[str, str]]) -> Partition:
    fit = [one for one in facts.partitions if one.gpu_nodes]
    if name is not None:
        found = facts.partition(name)
        if found is None or not found.gpu_nodes:
            message = "there is no such partition" if found is None else "no node of this partition has GPUs"
            valid = ", ".join(closest_first(name, [one.name for one in fit], limit=20))
            raise NotFoundError(Problem(where=f"--partition {name}", message=message, valid=valid))
        return found
    if not fit:
        names = ", ".join(one.name for one in facts.partitions) or "none"
        message = f"no node that Slurm shows has GPUs (partitions: {names})"
        remedy = "write a profile by hand, with cluster.gpu_request=none if whole nodes come with their GPUs"
        raise NotFoundError(Problem(where=f"cluster {facts.cluster}", message=message, remedy=remedy))
    mine = {account for account, _ in associations}

    def suits(one: Partition) -> tuple[bool, bool, bool, int]:
        open_to_me = one.accounts is None or bool(mine & set(one.accounts))
        return one.up, open_to_me, one.default, sum(sum(node.gpus.values()) for node in one.gpu_nodes if node.usable)

    return max(fit, key=suits)


def _largest_kind(partition: Partition) -> tuple[str, list[Node]]:
    """The type of GPU that most nodes of the partition have, and those nodes."""
    kinds = Counter(kind for node in partition.gpu_nodes for kind in node.gpus)
    gpu_type = kinds.most_common(1)[0][0]
    return gpu_type, [node for node in partition.gpu_nodes if gpu_type in node.gpus]


def _gpu_memory(gpu_type: str, nodes: Sequence[Node], findings: list[Finding], notes: dict[str, str]) -> Any:
    features = sorted({feature for node in nodes for feature in node.features})
    sizes = sizes_gb(gpu_type, features)
    if not sizes and not gpu_type:
        # Without a type, a feature may name it (`H100`).
        sizes = next((found for feature in features if (found := sizes_gb(feature, features))), ())
    if len(sizes) == 1:
        return sizes[0]
    name = gpu_type or "a type that Slurm does not tell"
    which = f"{' or '.join(map(str, sizes))} GB" if sizes else "not known to doctor"
    notes["gpu_memory_gb"] = f"GPUs of {name}: {which}; `nvidia-smi` on a node tells"
    findings.append(
        Finding(
            Level.fault,
            f"the memory of a GPU ({name}) is open: {which}",
            "write gpu_memory_gb, in GiB, into the profile: plans are made to fit it",
        )
    )
    return OPEN


def _booking(
    chosen: Partition, facts: Facts, associations: Sequence[tuple[str, str]], findings: list[Finding]
) -> dict[str, str]:
    """Account and quality of service, where the defaults would not do."""
    found: dict[str, str] = {}
    accounts = [account for account, _ in associations]
    if chosen.accounts is not None:
        allowed = [account for account in accounts if account in chosen.accounts]
        if allowed:
            found["account"] = allowed[0]
        elif accounts:
            who = f"{chosen.name} is for the accounts {', '.join(chosen.accounts)}; yours: {', '.join(accounts)}"
            findings.append(Finding(Level.fault, who, "ask for an account, or name another --partition"))
    elif facts.enforced and len(set(accounts)) == 1:
        found["account"] = accounts[0]
    if chosen.qos is not None and not any(qos in chosen.qos for _, qos in associations):
        found["qos"] = chosen.qos[0]
    return found


def _limits(chosen: Partition, base: ClusterConfig) -> dict[str, int]:
    limits: dict[str, int] = {}
    if chosen.max_time_min is not None:
        limits |= {"time_min": min(base.time_min, chosen.max_time_min), "max_time_min": chosen.max_time_min}
    if chosen.max_nodes is not None:
        limits["max_nodes"] = chosen.max_nodes
    return limits


def _data_job(facts: Facts, chosen: Partition, alike: Sequence[Node], base: ClusterConfig) -> dict[str, Any]:
    """On the default partition where that has no GPUs, else beside the training."""
    default, asked = facts.partition(None), base.data_job
    free = default is not None and default.up and default.accounts is None and default.qos is None
    apart = default if default is not None and free and default.nodes and not default.gpu_nodes else None
    nodes, place = (alike, chosen) if apart is None else (apart.nodes, apart)
    return {
        **({} if apart is None else {"partition": apart.name}),
        "cpus": min(asked.cpus, max(1, min(node.cpus for node in nodes))),
        "mem_gb": min(asked.mem_gb, max(1, min(node.memory_gb for node in nodes))),
        "time_min": asked.time_min if place.max_time_min is None else min(asked.time_min, place.max_time_min),
    }


def _eval_job(chosen: Partition, values: Mapping[str, Any], base: ClusterConfig) -> dict[str, Any]:
    asked = base.eval_job
    found: dict[str, Any] = {"cpus": min(asked.cpus, values["cpus_per_gpu"])}
    if "mem_gb_per_gpu" in values:
        found["mem_gb"] = values["mem_gb_per_gpu"]
    found["time_min"] = asked.time_min if chosen.max_time_min is None else min(asked.time_min, chosen.max_time_min)
    return found
