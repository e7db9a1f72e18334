"""`launcher resume RUN [key=value …]`: go on from a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from launcher.cli.options import json_argument, named_run, override_arguments, print_warnings, run_argument
from launcher.cli.watch import follow_argument, launched
from launcher.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    run_argument(parser)
    override_arguments(parser)
    parser.add_argument("--step", type=int, metavar="N", help="go on from the checkpoint at step N (the newest)")
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on with other data, tokenizer, seed or batch than before; the run's events will say so",
    )
    follow_argument(parser)
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Queue the run again."""
    found = named_run(options)
    from launcher.runplan import RunPlan
    from launcher.runs.resume import resume

    again = resume(
        found,
        options.overrides,
        step=options.step,
        work_dir=Path.cwd(),
        config_dir=options.config_dir,
        accept_changes=options.accept_changes,
    )
    print_warnings(RunPlan.load(again.run.plan).warnings)
    return launched(again, options)
