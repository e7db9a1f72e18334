"""Named points at which a test may break a run; without LAUNCHER_FAULTS in the environment they do nothing.

LAUNCHER_FAULTS names a folder. Each `NAME.json` in it is one fault, `{"point", "step", "rank", "action"}`; step and
rank may be null for any. A fault strikes once over all attempts of a run, at its step or the first one after it: who
strikes renames the file first.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NoReturn

VARIABLE = "LAUNCHER_FAULTS"


class Point(Enum):
    """Where a run can be broken, in the order in which a run gets there."""

    prologue = "prologue"
    """On the first node, once the attempt is allotted."""
    start = "start"
    """In a rank, before torch is imported."""
    joined = "joined"
    """In a rank, once the process group is there."""
    loaded = "loaded"
    """In a rank, once the engine holds what the run starts from."""
    step = "step"
    """Before an optimiser step."""
    data = "data"
    """While the data thread makes a step's batches."""
    loss = "loss"
    """When a step's loss is known; `poison` makes it not a number."""
    evaluate = "evaluate"
    """Before a batch of an evaluation."""
    save_begin = "save.begin"
    """Before anything is copied or written."""
    save_copied = "save.copied"
    """The state lies in host memory; training may go on."""
    save_writing = "save.writing"
    """Within a file of the checkpoint."""
    save_written = "save.written"
    """A rank's files are whole and synced."""
    save_listed = "save.listed"
    """A rank has told which files it wrote."""
    save_manifest = "save.manifest"
    """Before the manifest is written (rank 0)."""
    save_rename = "save.rename"
    """The manifest lies in the unnamed folder (rank 0)."""
    save_pointer = "save.pointer"
    """The checkpoint exists; `latest` still names the one before (rank 0)."""
    save_prune = "save.prune"
    """Before older checkpoints are removed (rank 0)."""
    save_done = "save.done"
    """All of it is done (rank 0)."""
    end = "end"
    """Training is over, the rank has left its word, and the process group is still there."""
    epilogue = "epilogue"
    """On the first node, once the ranks are gone and before the outcome is written."""


SAVE_POINTS = tuple(point for point in Point if point.value.startswith("save."))
"""The save path, from first to last."""


def _signalled(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


PAUSE_S = 40.0
"""Longer than Slurm takes to look at time limits (every 30 s)."""


def _hang() -> None:
    while True:
        time.sleep(3600)


def _raised(make: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def strike() -> NoReturn:
        raise make()

    return strike


def _gpu_memory() -> BaseException:
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (injected)")


ACTIONS: dict[str, Callable[[], object]] = {
    "kill": _signalled(signal.SIGKILL),
    "stop": _signalled(signal.SIGSTOP),
    "term": _signalled(signal.SIGTERM),
    "usr2": _signalled(signal.SIGUSR2),
    "abort": _signalled(signal.SIGABRT),
    "hang": _hang,
    "pause": lambda: time.sleep(PAUSE_S),
    "poison": lambda: None,
    "disk_full": _raised(lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    "out_of_memory": _raised(_gpu_memory),
    "host_memory": _raised(lambda: MemoryError("injected")),
    "gpu_error": _raised(lambda: RuntimeError("CUDA error: uncorrectable ECC error encountered (injected)")),
    "communication": _raised(lambda: RuntimeError("NCCL error: unhandled system error (injected)")),
    "bug": _raised(lambda: ValueError("injected")),
}
"""What can be done to a process at a point. `poison` is left to the caller."""


def reach(point: Point, *, rank: int = 0, step: int | None = None) -> str | None:
    """Pass a point; the action of the fault that struck there, if one did and the process lives on."""
    folder = os.environ.get(VARIABLE)
    if folder is None:
        return None
    for file in sorted(Path(folder).glob("*.json")):
        fault = _read(file)
        if fault.get("point") != point.value:
            continue
        if fault.get("rank") not in (None, rank) or not _due(fault.get("step"), step):
            continue
        if _claimed(file):
            action = str(fault["action"])
            ACTIONS[action]()
            return action
    return None


def _due(planned: object, step: int | None) -> bool:
    """A run that the fault before stopped a step late has passed the planned step for good: the next one will do."""
    return planned is None or (step is not None and isinstance(planned, int) and step >= planned)


def _read(file: Path) -> dict[str, object]:
    try:
        document: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document


def _claimed(file: Path) -> bool:
    """Whether this process is the one that strikes; the file keeps the time of the strike."""
    try:
        os.utime(file)
        file.rename(file.with_suffix(".struck"))
    except OSError:
        return False
    return True
