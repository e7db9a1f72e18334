"""`launcher sync RUN [RUN …]`: upload to W&B what a run could only write down."""

from __future__ import annotations

import argparse
from typing import Any

from launcher.cli.options import json_argument, print_json, runs_root
from launcher.config.schema import WandbMode
from launcher.errors import ExitCode, Problem, UserError
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.find import find
from launcher.runs.status import State, status


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("names", nargs="+", metavar="RUN", help="run id, its beginning, a path, or `last`; or several")
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Upload what is not there yet, run by run."""
    from launcher.track.wandb_sync import hand_over, segments, upload

    found = [find(name, runs_root(options)) for name in options.names]
    problems = [problem for one in found if (problem := _refusal(one)) is not None]
    if problems:
        raise UserError(*problems)
    told: list[dict[str, Any]] = []
    for one in found:
        hand_over(one)
        parts = segments(one)
        if parts:
            upload(parts)
        told.append({"run_id": one.root.name, "uploaded": [part.name for part in parts]})
        if not options.json:
            print(f"{one.root.name}: {f'{len(parts)} parts uploaded' if parts else 'everything is uploaded already'}")
    if options.json:
        print_json({"runs": told})
    return ExitCode.DONE


def _refusal(run: RunDir) -> Problem | None:
    """Why a run cannot be synced now."""
    if RunPlan.load(run.plan).config.tracking.wandb is WandbMode.disabled:
        remedy = "`launcher report` shows what it measured"
        return Problem(where=run.root.name, message="the run is not tracked (tracking=disabled)", remedy=remedy)
    if status(run).state is State.RUNNING:
        remedy = f"`launcher report {run.root.name}` shows what there is so far"
        return Problem(
            where=run.root.name, message="the run is still writing; sync it when it has ended", remedy=remedy
        )
    return None
