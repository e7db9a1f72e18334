"""Finding a trial's processes, and signals to them. Knows /proc, and nothing of runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.faultpoints import VARIABLE

SIGNALS_PENDING = ("SigPnd", "ShdPnd")


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def command(pid: int) -> str:
    """The command line, for a person; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _all() -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            yield int(folder.name)


def having(**variables: str) -> list[int]:
    """Live processes whose environment holds all of `variables`."""
    wanted = {f"{name}={value}".encode() for name, value in variables.items()}
    return [pid for pid in _all() if wanted <= set(_environment(pid)) and state(pid) != "Z"]


def mentioning(text: str) -> list[int]:
    """Live processes whose environment or command line holds `text`; this one and its parent do not count."""
    needle = text.encode()
    found = [pid for pid in _all() if any(needle in entry for entry in [*_environment(pid), command(pid).encode()])]
    return [pid for pid in found if pid != os.getppid() and state(pid) != "Z"]


def of_trial(faults: str, **variables: str) -> list[int]:
    """A trial's processes: they inherit the folder of its faults. Job ids are not unique where two clusters run."""
    return having(**{VARIABLE: faults}, **variables)


def rank_pid(faults: str, rank: int) -> int | None:
    """The process that is this rank of the trial's job."""
    found = of_trial(faults, SLURM_PROCID=str(rank))
    return next((pid for pid in found if "submitit.core._submit" in command(pid) and _is_leader(pid, found)), None)


def _is_leader(pid: int, family: list[int]) -> bool:
    """Whether none of the family is its parent."""
    return _stat(pid)[1:2] != [] and int(_stat(pid)[1]) not in family


def srun_pids(faults: str) -> list[int]:
    """The trial's srun: a parent, which waits, and a child."""
    return [pid for pid in of_trial(faults) if command(pid).partition(" ")[0].endswith("srun")]


def step_daemons(tasks: Sequence[int]) -> list[int]:
    """The slurmstepd of these processes: what they started has them for a parent."""
    parents = {int(fields[1]) for pid in tasks if (fields := _stat(pid))}
    return [pid for pid in parents if command(pid).startswith("slurmstepd:")]


def node_of(pid: int) -> str | None:
    """The node that the process believes to be on."""
    names = [entry for entry in _environment(pid) if entry.startswith(b"SLURMD_NODENAME=")]
    return names[0].partition(b"=")[2].decode() if names else None


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def state(pid: int) -> str | None:
    """The kernel's letter: R, S, T (stopped), Z; None once it is gone."""
    return next(iter(_stat(pid)), None)


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Whether a signal waits for the process to go on."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(SIGNALS_PENDING)]
    return any(mask & (1 << (number - 1)) for mask in masks)


def send(number: signal.Signals, *pids: int) -> None:
    """Signal each one that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
