"""`launcher cancel RUN`, or `--sweep ID`: stop with a checkpoint."""

from __future__ import annotations

import argparse

from launcher.cli.options import runs_root
from launcher.errors import ExitCode, Problem, UserError
from launcher.rundir import RunDir
from launcher.runs.cancel import cancel, cancel_all
from launcher.runs.find import find
from launcher.runs.members import find_sweep, read_sweep


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("name", metavar="RUN", nargs="?", help="run id, the beginning of one, a path, or `last`")
    parser.add_argument("--sweep", metavar="ID", help="every member of that sweep (or `last`) that has not ended")


def run(options: argparse.Namespace) -> ExitCode:
    """Ask, and say what will happen."""
    if (options.name is None) == (options.sweep is None):
        remedy = "write cancel RUN, or cancel --sweep ID"
        raise UserError(Problem(where="cancel", message="what is to stop is not clear", remedy=remedy))
    root = runs_root(options)
    if options.sweep is None:
        print(cancel(find(options.name, root)))
        return ExitCode.DONE
    sweep = read_sweep(find_sweep(options.sweep, root))
    runs = [RunDir(root / member.run_id) for member in sweep.members]
    asked = cancel_all([run for run in runs if run.plan.is_file()])
    print(f"{asked:,} of {len(runs):,} members were told to stop; those that run write a checkpoint first")
    return ExitCode.DONE
