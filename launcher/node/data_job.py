"""The job that tokenises a run's data before training: one process group on one node, no GPU, no torch.

Killed or preempted, it goes on where it was. Training waits for it, and looks for itself at what it left.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from launcher.data.tokens import Meta
from launcher.errors import ExitCode, LauncherError
from launcher.models.source import resolve
from launcher.node.data import prepare_data
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record


def main(run_dir: str, *others: str) -> None:
    """Entry of the job. What goes wrong is an event; the exit status keeps Slurm from starting the training.

    `others` are directories of runs that wait for the same data.
    """
    run, submission = RunDir(Path(run_dir)), int(os.environ["LAUNCHER_SUBMISSION"])
    waiting = [run, *(other for other in map(RunDir, map(Path, others)) if other.root.is_dir())]
    started = time.monotonic()
    try:
        plan = RunPlan.load(run.plan)
        model = resolve(plan.config.model, weights=False)
        folders = prepare_data(plan, model, plan.config.cluster.data_job.cpus)
    except Exception as error:
        known = isinstance(error, LauncherError)
        print(error if known else traceback.format_exc(), file=sys.stderr, flush=True)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        for one in waiting:
            record(one, Event.data_failed, 0, submission=submission, reason=reason)
        raise SystemExit(int(error.exit_code if isinstance(error, LauncherError) else ExitCode.BUG)) from error
    meta = Meta.read(folders["train"])
    seconds = round(time.monotonic() - started, 1)
    for one in waiting:
        record(one, Event.data_prepared, 0, submission=submission, seconds=seconds, rows=meta.rows, tokens=meta.tokens)
