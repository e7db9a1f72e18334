"""`launcher submit RECIPE [key=value …]`: plan, freeze and queue."""

from __future__ import annotations

import argparse
import sys

from launcher.cli.options import json_argument, overrides, print_json, recipe_arguments
from launcher.cli.plan import batch_script, planned
from launcher.cli.watch import follow_argument, launched
from launcher.errors import ExitCode
from launcher.runplan import RunPlan


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    recipe_arguments(parser)
    json_argument(parser)
    follow_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would be submitted; submit nothing")


def run(options: argparse.Namespace) -> ExitCode:
    """Submit, or show what would be submitted."""
    plan = planned(options)
    if options.dry_run:
        _show(plan, options)
        return ExitCode.DONE
    from launcher.runs.launch import launch

    found = launch(plan, [options.recipe, *overrides(options)])
    return launched(found, options)


def _show(plan: RunPlan, options: argparse.Namespace) -> None:
    if options.json:
        print_json(plan.to_json())
        return
    from launcher.cli.page import page

    print(page(plan))
    if plan.slurm is not None:
        print(f"\nBatch script\n\n{batch_script(plan)}", end="")
    print("\nnothing was submitted (--dry-run)", file=sys.stderr)
