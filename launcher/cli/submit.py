"""`launcher submit RECIPE [key=value …]`, or with `--from RUN` or `-m`, a sweep: plan, freeze and queue."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launcher.cli.options import (
    json_argument,
    override_arguments,
    overrides,
    print_json,
    print_warnings,
    refuse_if_strict,
    require_tasks,
    runs_root,
    strict_argument,
    then_arguments,
    then_overrides,
)
from launcher.cli.plan import batch_script, planned
from launcher.cli.sweeping import refuse_without_sweep, submit_sweep, sweep_arguments
from launcher.cli.watch import follow_argument, launched
from launcher.errors import ExitCode, Problem, UserError
from launcher.runplan import RunPlan
from launcher.runs.find import find


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("recipe", nargs="?", help="name of a recipe")
    override_arguments(parser)
    then_arguments(parser)
    parser.add_argument("--from", dest="source", metavar="RUN", help="the config of that run, in place of a recipe")
    json_argument(parser)
    follow_argument(parser)
    strict_argument(parser)
    sweep_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would be submitted; submit nothing")


def run(options: argparse.Namespace) -> ExitCode:
    """Submit, or show what would be submitted."""
    options.overrides = [*options.overrides, *then_overrides(options)]
    if options.more is not None:
        from launcher.cli.sweep_more import submit_more

        return submit_more(options)
    if options.multirun:
        return submit_sweep(options)
    refuse_without_sweep(options)
    plan, typed = _repeated(options) if options.source is not None else _new(options)
    require_tasks(plan, options)
    refuse_if_strict(plan.warnings, options)
    if options.dry_run:
        _show(plan, options)
        return ExitCode.DONE
    print_warnings(plan.warnings)
    from launcher.runs.launch import launch

    return launched(launch(plan, typed), options)


def _new(options: argparse.Namespace) -> tuple[RunPlan, list[str]]:
    """The plan of a recipe, and what was typed."""
    if options.recipe is None:
        remedy = "write submit RECIPE, or submit --from RUN"
        raise UserError(Problem(where="submit", message="there is no recipe", remedy=remedy))
    return planned(options), [options.recipe, *overrides(options)]


def _repeated(options: argparse.Namespace) -> tuple[RunPlan, list[str]]:
    """The plan of a run that is repeated, and what was typed for it and since."""
    from launcher.runs.repeat import repeat

    run = find(options.source, runs_root(options))
    # With a run in its place, no word is a recipe.
    more = [word for word in (options.recipe, *options.overrides) if word is not None]
    plan = repeat(run, more, work_dir=Path.cwd(), config_dir=options.config_dir, runs_root=options.runs_root)
    return plan, [*run.overrides.read_text(encoding="utf-8").splitlines(), *more]


def _show(plan: RunPlan, options: argparse.Namespace) -> None:
    if options.json:
        print_json(plan.to_json())
        return
    from launcher.cli.page import page

    print(page(plan))
    if plan.slurm is not None:
        print(f"\nBatch script\n\n{batch_script(plan)}", end="")
    print("\nnothing was submitted (--dry-run)", file=sys.stderr)
