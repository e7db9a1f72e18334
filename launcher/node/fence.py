"""An attempt that is no longer the run leaves: the orphans of a node that Slurm gave up keep computing otherwise.

One look per node every few seconds, in a thread of its own. That no orphan can commit a checkpoint is not this file's
doing: the commit itself looks (`checkpoint`).
"""

from __future__ import annotations

import os
import sys
import threading

from launcher.rundir import RunDir

EVERY_S = 5.0
STALE_STATUS = 75


def superseded(run: RunDir, attempt: int) -> bool:
    """Whether a later attempt has begun."""
    return run.attempt(attempt + 1).root.is_dir()


def guard(run: RunDir, attempt: int) -> None:
    """End this process as soon as a later attempt has begun; returns at once."""
    threading.Thread(target=_look, args=(run, attempt), name="fence", daemon=True).start()


def _look(run: RunDir, attempt: int) -> None:
    waiting = threading.Event()
    while not superseded(run, attempt):
        waiting.wait(EVERY_S)
    print(f"attempt {attempt + 1} has begun, so this one leaves", file=sys.stderr, flush=True)
    os._exit(STALE_STATUS)
