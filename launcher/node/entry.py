"""Where a rank begins and ends: output to its own log, training, and a record of how it went.

submitit's pickle names `main`; the local job runs this module. Imports torch only once everything that can be said
without it has been said.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NoReturn

from launcher.errors import LauncherError
from launcher.failures import FailureClass, exit_status
from launcher.faultpoints import Point, reach
from launcher.node import fence
from launcher.node.causes import failure_of
from launcher.node.local_dir import use_local_dir
from launcher.node.logs import redirect_output
from launcher.node.ranks import Ranks, export_for_torch, node_name, read_ranks
from launcher.node.stop import StopFlag
from launcher.node.warm_up import own_extensions
from launcher.node.watchdog import Watchdog
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.job import cancelled_submission
from launcher.runs.outcome import Ending, RankWord
from launcher.track.wandb_process import wandb_process


def main(run_dir: str) -> None:
    """Run this rank to its end; the process exits with a status that says how it went."""
    os.umask(0o077)
    run = RunDir(Path(run_dir))
    ranks = read_ranks()
    folder = run.attempt(ranks.attempt)
    redirect_output(folder.rank_log(ranks.rank))
    stop = StopFlag()
    stop.install()
    if ranks.rank == 0 and cancelled_submission(run) == ranks.submission:
        # The signal may have come before the handlers were there.
        stop.signal = signal.SIGTERM
    plan = RunPlan.load(run.plan)
    watchdog = Watchdog(plan.config.watchdog, folder.stacks(ranks.rank))
    watchdog.start()
    if ranks.local_rank == 0:
        fence.guard(run, ranks.attempt)
    try:
        reach(Point.start, rank=ranks.rank)
        _work(plan, run, ranks, stop, watchdog)
    except BaseException as error:
        traceback.print_exc()
        reason = str(error) if isinstance(error, LauncherError) else f"{type(error).__name__}: {error}"
        blames = error.node if isinstance(error, LauncherError) else None
        failure = failure_of(error)
        _leave_word(run, ranks, Ending.failed, failure, reason, None, blames)
        _leave(exit_status(failure))
    watchdog.off()
    _leave(0)


def _work(plan: RunPlan, run: RunDir, ranks: Ranks, stop: StopFlag, watchdog: Watchdog) -> None:
    export_for_torch(ranks)
    use_local_dir()
    own_extensions()
    from launcher.train.device import choose_device

    # DeepSpeed settles on an accelerator when it is imported, so the choice comes first.
    device = choose_device(plan.config.cluster.accelerator, ranks)
    from launcher.train.deterministic import same_bits_every_time
    from launcher.train.run import leave_group, train

    exact = same_bits_every_time() if plan.config.train.deterministic else contextlib.nullcontext()
    with wandb_process(plan, run, ranks), exact:
        ending = train(plan, run, ranks, stop, watchdog, device)
        # Before anything else is waited for: a job that is being preempted may not live that long.
        _leave_word(run, ranks, ending.state, failure_by_signal(ending.signal, plan), ending.reason, ending.step)
        watchdog.end()
        reach(Point.end, rank=ranks.rank)
        leave_group()


def failure_by_signal(number: int | None, plan: RunPlan) -> FailureClass | None:
    """What the signal that stopped the run stands for; None where its work was done."""
    if number is None:
        return None
    return FailureClass.time_limit if number == signal.SIGUSR2 else FailureClass.preempted


def _leave(status: int) -> NoReturn:
    """End the process without destructors.

    Those of a broken process group wait for peers that will never come, and gloo's threads, even after
    destroy_process_group, now and then abort a rank that has done all its work.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _leave_word(
    run: RunDir,
    ranks: Ranks,
    state: Ending,
    failure: FailureClass | None,
    reason: str,
    step: int | None,
    blames: str | None = None,
) -> None:
    word = RankWord(
        rank=ranks.rank,
        host=node_name(),
        pid=os.getpid(),
        time=time.time(),
        state=state,
        failure=failure,
        reason=reason,
        step=step,
        blames=blames,
    )
    # A disk that is full takes no word either; the exit status says enough.
    with contextlib.suppress(OSError):
        word.write(run.attempt(ranks.attempt))


if __name__ == "__main__":
    main(sys.argv[1])
