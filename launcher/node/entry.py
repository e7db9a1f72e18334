"""Where a rank begins and ends: output to its own log, training, and a record of how it went.

submitit's pickle names `main`; the local job runs this module. Imports torch only once everything that can be said
without it has been said.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from launcher.errors import LauncherError
from launcher.node.logs import redirect_output
from launcher.node.ranks import Ranks, export_for_torch, node_name, read_ranks
from launcher.node.stop import StopFlag
from launcher.node.warm_up import own_extensions
from launcher.publish import publish_json
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.job import cancel_requested, read_job
from launcher.runs.outcome import Ending
from launcher.track.wandb_process import wandb_process


def main(run_dir: str) -> None:
    """Run this rank to its end; the process exits with a status that says how it went."""
    os.umask(0o077)
    run = RunDir(Path(run_dir))
    ranks = read_ranks()
    redirect_output(run.attempt(ranks.attempt).rank_log(ranks.rank))
    stop = StopFlag()
    stop.install()
    if ranks.rank == 0 and _cancelled(run):
        stop.signal = signal.SIGTERM
    export_for_torch(ranks)
    own_extensions()
    try:
        from launcher.train.device import choose_device

        plan = RunPlan.load(run.plan)
        # DeepSpeed settles on an accelerator when it is imported, so the choice comes first.
        device = choose_device(plan.config.cluster.accelerator, ranks)
        from launcher.train.run import train

        with wandb_process(plan, run, ranks):
            ending = train(plan, run, ranks, stop, device)
            if ranks.rank == 0:
                # Before W&B is waited for: a job that is being preempted may not live that long.
                _write_record(run, ranks, ending.state, ending.reason, ending.step)
    except BaseException as error:
        traceback.print_exc()
        reason = str(error) if isinstance(error, LauncherError) else f"{type(error).__name__}: {error}"
        _write_record(run, ranks, Ending.failed, reason, None)
        _leave(1)
    _leave(0)


def _cancelled(run: RunDir) -> bool:
    """Whether the user asked this submission to stop; the signal may have come before the handlers were there."""
    job = read_job(run)
    return job is not None and cancel_requested(run, job)


def _leave(status: int) -> NoReturn:
    """End the process without destructors.

    Those of a broken process group wait for peers that will never come, and gloo's threads, even after
    destroy_process_group, now and then abort a rank that has done all its work.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _write_record(run: RunDir, ranks: Ranks, state: Ending, reason: str, step: int | None) -> None:
    document = {"rank": ranks.rank, "host": node_name(), "pid": os.getpid(), "time": time.time()}
    publish_json(
        run.attempt(ranks.attempt).rank_record(ranks.rank),
        {**document, "state": state.value, "reason": reason, "step": step},
    )


if __name__ == "__main__":
    main(sys.argv[1])
