"""What this machine has of what a run needs: tools, folders on a file system that nodes can share, a clock."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from launcher.cluster.findings import Finding, Level
from launcher.config.cluster import ClusterConfig, Runtime
from launcher.config.survival import HealthConfig
from launcher.node.health import clock_skew_s

GIB = 2**30
SLURM_TOOLS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
SHARED = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "weka", "gluster", "panfs", "pvfs", "orangefs", "vast", "cifs")
"""How the names begin of file systems that several machines can mount."""
TIMEOUT_S = 20


def tools(cluster: ClusterConfig) -> Iterator[Finding]:
    """Slurm's commands, what compiles DeepSpeed's ops, and what starts images."""
    missing = [name for name in SLURM_TOOLS if shutil.which(name) is None]
    if missing:
        yield Finding(Level.fault, f"there is no {', '.join(missing)} here", "run this on a login node of the cluster")
    else:
        yield Finding(Level.ok, f"Slurm's commands are there ({', '.join(SLURM_TOOLS)})")
    if not any(shutil.which(name) for name in ("g++", "c++", "nvcc")):
        remedy = "DeepSpeed compiles some ops on first use: install g++, or load a module that brings one"
        yield Finding(Level.warning, "there is no C++ compiler here", remedy)
    yield from _image(cluster)


def _image(cluster: ClusterConfig) -> Iterator[Finding]:
    software = cluster.software
    if software.image is None:
        return
    if software.runtime is Runtime.pyxis:
        help_text = _output("srun", "--help")
        if "--container-image" in help_text:
            yield Finding(Level.ok, "srun starts images (Pyxis)")
        else:
            yield Finding(Level.fault, "srun knows no --container-image: Pyxis is not installed", "ask your site")
    elif shutil.which(software.runtime.value) is not None:
        yield Finding(Level.ok, f"{software.runtime.value} is there")
    elif software.modules:
        yield Finding(Level.ok, f"{software.runtime.value} is to come from a module ({', '.join(software.modules)})")
    else:
        remedy = "nodes may have it: --job tells; or name its module in cluster.software.modules"
        yield Finding(Level.warning, f"there is no {software.runtime.value} on this machine", remedy)
    if software.image.startswith("/") and not Path(software.image).exists():
        remedy = "nodes may see it: --job tells; or mend cluster.software.image"
        yield Finding(Level.warning, f"{software.image} is not on this machine", remedy)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def folders(cluster: ClusterConfig, runs_root: Path, health: HealthConfig) -> Iterator[Finding]:
    """Where runs and what they share lie: writable, with room, on something that nodes can see; and its clock."""
    places = {"runs_root": runs_root}
    if cluster.scratch_dir is not None:
        places["cluster.scratch_dir"] = Path(cluster.scratch_dir)
    for key, path in places.items():
        yield from _folder(key, path, health)
    existing = _existing(runs_root)
    if os.access(existing, os.W_OK | os.X_OK):
        skew_s = clock_skew_s(existing)
        if abs(skew_s) > health.max_clock_skew_s:
            told = f"this machine's clock differs by {skew_s:.0f} s from that of {existing}'s file system"
            yield Finding(Level.warning, told, "tell your site; the times in events and reports will be wrong by that")
        else:
            yield Finding(Level.ok, f"the clock agrees with that of {existing}'s file system ({abs(skew_s):.1f} s)")


def _folder(key: str, path: Path, health: HealthConfig) -> Iterator[Finding]:
    existing = _existing(path)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(Level.fault, f"{key}: {existing} cannot be written to", f"name another folder: {key}=DIR")
        return
    free_gb = shutil.disk_usage(existing).free / GIB
    if free_gb < health.min_free_disk_gb:
        told = f"{key}: {free_gb:.1f} GiB are free in {existing} (health.min_free_disk_gb={health.min_free_disk_gb:g})"
        yield Finding(Level.fault, told, "make room, or name another folder")
    kind = _file_system(existing)
    if kind.removeprefix("fuse.").startswith(SHARED):
        yield Finding(Level.ok, f"{key}: {path} is on {kind}, {free_gb:,.0f} GiB free")
    else:
        told = f"{key}: {path} is on {kind}, which looks like a disk of this machine's own"
        yield Finding(Level.warning, told, f"nodes must see it: --job tells; else name a shared folder: {key}=DIR")


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder is on."""
    real, kind, longest = folder.resolve(), "an unknown file system", -1
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, name, *_ = line.split(" ")
        point = Path(place.replace("\\040", " "))
        if (point == real or point in real.parents) and len(str(point)) >= longest:
            kind, longest = name, len(str(point))
    return kind
