"""What `submit` and `resume` share: telling what was queued, and following it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from launcher.cli.options import print_json
from launcher.errors import DoesNotHoldError, ExitCode, Problem
from launcher.rundir import RunDir

if TYPE_CHECKING:
    from launcher.runs.launch import Launched


def follow_argument(parser: argparse.ArgumentParser) -> None:
    """`--follow`."""
    parser.add_argument(
        "--follow", action="store_true", help="watch the run to its end; exit 5 if it does not complete"
    )


def launched(found: Launched, options: argparse.Namespace) -> ExitCode:
    """Print what was queued, and follow it if asked to; DoesNotHoldError if it then does not complete."""
    run, name = found.run, found.run.root.name
    if options.json:
        jobs: dict[str, object] = {"job_id": found.job_id, "data_job_id": found.data_job_id}
        jobs["then"] = {link.name: link.job.job_id for link in found.links}
        print_json({"run_id": name, "run_dir": str(run.root), **jobs})
        sys.stdout.flush()
    else:
        after = f" (after job {found.data_job_id}, which prepares its data)" if found.data_job_id else ""
        print(f"run     {name}\njob     {found.job_id}{after}")
        for link in found.links:
            print(f"{link.name:<8}{link.job.job_id}")
        print(f"folder  {run.root}", flush=True)
        if not options.follow:
            print(f"next    launcher status {name}\n        launcher logs -f {name}\n        launcher cancel {name}")
    if options.follow:
        _follow(run, options)
    return ExitCode.DONE


def _follow(run: RunDir, options: argparse.Namespace) -> None:
    from launcher.runs.follow import follow
    from launcher.runs.screen import screen
    from launcher.runs.stages import StageState
    from launcher.runs.status import State

    # With --json stdout holds one document, so the rest goes to stderr.
    found = follow(run, screen(sys.stderr if options.json else sys.stdout))
    undone = [stage for stage in found.stages if stage.state is not StageState.COMPLETED]
    if found.state is State.COMPLETED and undone:
        stage = undone[0]
        raise DoesNotHoldError(
            Problem(
                where=f"run {found.run_id}",
                message=f"its training is COMPLETED, its {stage.name} is {stage.state.value}: {stage.reason}",
                remedy=(f"its log is {stage.log}; " if stage.log else "")
                + f"`launcher resume {found.run_id}` queues what has not been done",
            )
        )
    if found.state is not State.COMPLETED:
        raise DoesNotHoldError(
            Problem(
                where=f"run {found.run_id}",
                message=f"{found.state.value} at step {found.step} of {found.total_steps or '?'}: {found.reason}",
                remedy=f"`launcher logs {found.run_id}` shows what it printed; "
                f"`launcher resume {found.run_id}` goes on from its newest checkpoint",
            )
        )
    print(f"{found.state.value}: {found.reason}", file=sys.stderr if options.json else sys.stdout)
