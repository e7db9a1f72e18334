"""Is this node fit to train? What can be seen without torch, in well under a second. One rank per node asks.

Owns the looks at memory, disk, clock and devices. What all nodes find together is compared in `train.join`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from launcher.config.survival import HealthConfig

GIB = 2**30
DEVICE_TIMEOUT_S = 8
LEAST_INODES = 1000


def complaints(health: HealthConfig, attempt_folder: Path, *, gpus: bool) -> Iterator[str]:
    """What makes this node unfit; nothing if it is fit."""
    free_gb = _free_memory_gb()
    if free_gb < health.min_free_memory_gb:
        yield f"{free_gb:.1f} GiB of host memory are free (health.min_free_memory_gb={health.min_free_memory_gb:g})"
    for folder in (attempt_folder, Path(tempfile.gettempdir())):
        yield from _disk(folder, health.min_free_disk_gb)
    yield from _clock(attempt_folder, health.max_clock_skew_s)
    if gpus:
        yield from _devices()


def _free_memory_gb() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / GIB
    return float("inf")


def _disk(folder: Path, least_gb: float) -> Iterator[str]:
    free_gb = shutil.disk_usage(folder).free / GIB
    if free_gb < least_gb:
        yield f"{free_gb:.1f} GiB are free on the file system of {folder} (health.min_free_disk_gb={least_gb:g})"
    system = os.statvfs(folder)
    # Some file systems count no inodes.
    if system.f_files > 0 and system.f_favail < LEAST_INODES:
        yield f"{system.f_favail} inodes are free on the file system of {folder}"


def clock_skew_s(folder: Path) -> float:
    """Seconds by which this machine's clock is ahead of the file server's, which all nodes share."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"now")
        file.flush()
        return time.time() - os.fstat(file.fileno()).st_mtime


def _clock(folder: Path, most_s: float) -> Iterator[str]:
    skew_s = clock_skew_s(folder)
    if abs(skew_s) > most_s:
        yield f"its clock differs by {skew_s:.0f} s from the file system's (health.max_clock_skew_s={most_s:g})"


def _devices() -> Iterator[str]:
    """nvidia-smi answers, and no device has lost its memory or fallen off the bus."""
    query = ["nvidia-smi", "--query-gpu=index,ecc.errors.uncorrected.volatile.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=DEVICE_TIMEOUT_S)
    except FileNotFoundError:
        return
    except subprocess.TimeoutExpired:
        yield f"nvidia-smi gave no answer within {DEVICE_TIMEOUT_S} s"
        return
    if answer.returncode != 0:
        yield f"nvidia-smi failed: {(answer.stderr or answer.stdout).strip()[:200]}"
    for line in answer.stdout.splitlines():
        index, _, errors = line.partition(", ")
        if errors.strip().isdigit() and int(errors) > 0:
            yield f"GPU {index} has {errors.strip()} uncorrectable memory errors"
