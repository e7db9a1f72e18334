"""What Slurm itself says of a cluster: partitions, nodes, GPUs, limits.

Read from the text of `scontrol`, which has had the same form for many versions; fields that a version lacks are left
out, and those it adds are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launcher.cluster.slurm import answer

OUT_OF_SERVICE = {"DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "FUTURE", "MAINT", "UNKNOWN", "NO_RESPOND"}
"""Words in a node's state with which it takes no jobs."""
UNLIMITED = {"UNLIMITED", "INFINITE", "NONE", "N/A", "(null)", ""}


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """One machine."""

    name: str
    """As Slurm calls it."""
    cpus: int
    """CPUs that jobs can have."""
    memory_gb: int
    """Host memory that jobs can have, GB."""
    gpus: Mapping[str, int]
    """GPUs by type; the type is empty where Slurm tells none."""
    features: tuple[str, ...]
    """What `constraint` can name."""
    partitions: tuple[str, ...]
    """Partitions it belongs to."""
    usable: bool
    """Whether Slurm gives it to jobs at present."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """One queue."""

    name: str
    """Its name."""
    default: bool
    """Whether jobs that name none go there."""
    up: bool
    """Whether it takes jobs."""
    max_time_min: int | None
    """Longest time limit, minutes; None without one."""
    max_nodes: int | None
    """Most nodes of one job; None without a limit."""
    accounts: tuple[str, ...] | None
    """Accounts that may use it; None for all."""
    qos: tuple[str, ...] | None
    """Qualities of service that may; None for all."""
    nodes: tuple[Node, ...]
    """Its machines."""

    @property
    def gpu_nodes(self) -> list[Node]:
        """Those with GPUs."""
        return [node for node in self.nodes if node.gpus]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All of it."""

    version: str
    """Slurm's."""
    cluster: str
    """Its name."""
    counts_memory: bool
    """Whether Slurm hands out memory, so that a job that asks for none may get little."""
    accounting: bool
    """Whether there is a data base of jobs."""
    enforced: frozenset[str]
    """What accounting insists on: associations, limits, qos, wckeys."""
    partitions: tuple[Partition, ...]
    """Queues, in Slurm's order."""

    def partition(self, name: str | None) -> Partition | None:
        """The one of that name; the default one for None."""
        return next((one for one in self.partitions if one.name == name or (name is None and one.default)), None)


def ask() -> Facts:
    """What the controller says now; ClusterError if it cannot be asked."""
    config, partitions, nodes = (answer("scontrol", "show", what, "-o") for what in ("config", "partition", "node"))
    return read(config, partitions, nodes)


def read(config: str, partitions: str, nodes: str) -> Facts:
    """The answers to `scontrol show config`, `show partition -o` and `show node -o` as facts."""
    settings = dict(re.findall(r"^(\w+)\s*= ?(.*?)\s*$", config, re.MULTILINE))
    machines = [_node(record) for record in _records(nodes, "NodeName")]
    return Facts(
        version=settings.get("SLURM_VERSION", "of a version that it does not tell"),
        cluster=settings.get("ClusterName", "of a name that it does not tell"),
        counts_memory="MEMORY" in settings.get("SelectTypeParameters", "").upper(),
        accounting=settings.get("AccountingStorageType", "").endswith("slurmdbd"),
        enforced=frozenset(_list(settings.get("AccountingStorageEnforce", "none")) or ()) - {"none"},
        partitions=tuple(_partition(record, machines) for record in _records(partitions, "PartitionName")),
    )


def _records(text: str, first: str) -> list[dict[str, str]]:
    """KEY=VALUE records, one to a line or over several. Values may hold spaces (`OS=Linux 6.1`) and `=`."""
    found = []
    for block in re.split(rf"^(?={first}=)", text, flags=re.MULTILINE):
        pairs = re.findall(r"(?:^|\s)([A-Z][A-Za-z_/]*)=(.*?)(?=\s+[A-Z][A-Za-z_/]*=|\s*$)", " ".join(block.split()))
        if pairs:
            found.append(dict(pairs))
    return found


def _node(record: Mapping[str, str]) -> Node:
    words = set(re.split(r"[+ ]", re.sub(r"[~#!%$@^-]", "", record.get("State", "UNKNOWN")).upper()))
    # A star: it does not respond.
    usable = not {word.rstrip("*") for word in words} & OUT_OF_SERVICE and not any("*" in word for word in words)
    free_mb = _number(record, "RealMemory") - _number(record, "MemSpecLimit")
    features = record.get("ActiveFeatures") or record.get("AvailableFeatures") or record.get("Features", "")
    return Node(
        name=record["NodeName"],
        # The first leaves out cores that are kept from jobs; before 22.05 there is only the second.
        cpus=_number(record, "CPUEfctv") or _number(record, "CPUTot"),
        memory_gb=max(0, free_mb) // 1024,
        gpus=gpus_in(record.get("Gres", "")) or _gpus_in_tres(record.get("CfgTRES", "")),
        features=_list(features) or (),
        partitions=_list(record.get("Partitions", "")) or (),
        usable=usable,
    )


def gpus_in(gres: str) -> dict[str, int]:
    """GPUs by type in a node's Gres: `gpu:h100:4(S:0-1),tmpdisk:100`."""
    found: dict[str, int] = {}
    for part in re.split(r",(?![^(]*\))", gres):
        match = re.match(r"gpu(?::([^:(]+))??:(\d+)(?:\(|$)", part)
        if match:
            found[match[1] or ""] = found.get(match[1] or "", 0) + int(match[2])
    return found


def _gpus_in_tres(tres: str) -> dict[str, int]:
    typed = {name: int(count) for name, count in re.findall(r"gres/gpu:([^=,]+)=(\d+)", tres)}
    untyped = re.search(r"gres/gpu=(\d+)", tres)
    return typed or ({"": int(untyped[1])} if untyped else {})


def _partition(record: Mapping[str, str], machines: Sequence[Node]) -> Partition:
    name, most = record["PartitionName"], record.get("MaxNodes", "UNLIMITED")
    return Partition(
        name=name,
        default=record.get("Default") == "YES",
        up=record.get("State", "UP") == "UP",
        max_time_min=minutes(record.get("MaxTime", "UNLIMITED")),
        max_nodes=int(most) if most.isdigit() else None,
        accounts=_allowed(record.get("AllowAccounts", "ALL")),
        qos=_allowed(record.get("AllowQos", "ALL")),
        nodes=tuple(node for node in machines if name in node.partitions),
    )


def minutes(text: str) -> int | None:
    """Slurm's `2-12:00:00`, `30:00` or `90` in minutes; None for no limit."""
    if text.upper() in UNLIMITED:
        return None
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        hours, mins = [*parts, 0][:2]
    else:
        hours, mins = (parts[0], parts[1]) if len(parts) == 3 else (0, parts[0])
    return (int(days or 0) * 24 + hours) * 60 + mins


def _allowed(text: str) -> tuple[str, ...] | None:
    return None if text == "ALL" else _list(text)


def _list(text: str) -> tuple[str, ...] | None:
    return None if text in UNLIMITED else tuple(text.split(","))


def _number(record: Mapping[str, str], name: str) -> int:
    found = re.match(r"\d+", record.get(name, ""))
    return int(found[0]) if found else 0
