"""`launcher submit RECIPE -m …`: plan every member, freeze and queue them together."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli.options import overrides, print_json, print_warnings, refuse_if_strict
from launcher.errors import ExitCode, Problem, UserError

if TYPE_CHECKING:
    from launcher.plan.sweep import SweepPlan
    from launcher.runs.sweep import LaunchedSweep

ALLOCATIONS = 200_000
"""After so many Python looks for garbage, in place of 700."""
SHOWN = 12
"""Members of a dry run that are listed."""


def sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """`-m` and what goes with it."""
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="a run for each combination of values (optim.lr=1e-5,2e-5)"
    )
    parser.add_argument("--at-once", type=int, metavar="N", help="of a sweep, so many runs at the same time")


def refuse_without_sweep(options: argparse.Namespace) -> None:
    """UserError for what has a meaning for a sweep only."""
    if options.at_once is not None:
        remedy = "write -m and give several values, or leave it out"
        raise UserError(Problem(where="--at-once", message="there is one run, not a sweep", remedy=remedy))


def submit_sweep(options: argparse.Namespace) -> ExitCode:
    """Queue the sweep, or show what would be queued."""
    from launcher.plan.build import Request
    from launcher.plan.sweep import plan_sweep

    _refuse(options)
    typed = overrides(options)
    request = Request(recipe=options.recipe, overrides=typed, config_dir=options.config_dir, work_dir=Path.cwd())
    # Looking for garbage among thousands of plans, none of which is any, takes a third of all the time.
    gc.set_threshold(ALLOCATIONS)
    sweep = plan_sweep(request)
    gc.freeze()
    found = list(dict.fromkeys(problem for plan in sweep.plans for problem in plan.warnings))
    refuse_if_strict(found, options)
    if options.dry_run:
        _show(sweep, options)
        return ExitCode.DONE
    print_warnings(found)
    from launcher.runs.sweep import launch_sweep

    _tell(launch_sweep(sweep, [options.recipe, *typed], at_once=options.at_once), sweep, options)
    return ExitCode.DONE


def _refuse(options: argparse.Namespace) -> None:
    problems = []
    if options.source is not None:
        remedy = "write submit RECIPE -m …, with the run's overrides.txt as overrides"
        problems.append(Problem(where="--from", message="a sweep starts from a recipe", remedy=remedy))
    elif options.recipe is None:
        problems.append(Problem(where="submit", message="there is no recipe", remedy="write submit RECIPE -m …"))
    if options.follow:
        remedy = "leave it out; `launcher ls --sweep ID` shows where all of them stand"
        problems.append(Problem(where="--follow", message="it watches one run, and a sweep has many", remedy=remedy))
    if options.at_once is not None and options.at_once < 1:
        problems.append(Problem(where="--at-once", message=f"{options.at_once} is out of range", valid="1 or more"))
    if problems:
        raise UserError(*problems)


def _show(sweep: SweepPlan, options: argparse.Namespace) -> None:
    if options.json:
        print_json([plan.to_json() for plan in sweep.plans])
        return
    from launcher.cli.page import page

    print(page(sweep.plans[0]))
    print(f"\n{len(sweep.plans):,} members; above is the first, and they differ in")
    for plan, member in list(zip(sweep.plans, sweep.sweep.members, strict=True))[:SHOWN]:
        print(f"  {plan.run_id}  {' '.join(member)}")
    if len(sweep.plans) > SHOWN:
        print(f"  … and {len(sweep.plans) - SHOWN:,} more")
    print("\nnothing was submitted (--dry-run)", file=sys.stderr)


def _tell(launched: LaunchedSweep, sweep: SweepPlan, options: argparse.Namespace) -> None:
    if options.json:
        runs = [
            {
                "run_id": run.root.name,
                "run_dir": str(run.root),
                "job_id": job.job_id,
                "data_job_id": job.data_job_id,
                "overrides": member,
            }
            for run, job, member in zip(launched.runs, launched.jobs, sweep.sweep.members, strict=True)
        ]
        print_json({"sweep_id": sweep.sweep_id, "sweep_dir": str(launched.folder.root), "runs": runs})
        return
    jobs = list(dict.fromkeys(job.job_id.rpartition("_")[0] for job in launched.jobs))
    data_jobs = list(dict.fromkeys(job.data_job_id for job in launched.jobs if job.data_job_id is not None))
    after = f" (after job {', '.join(data_jobs)}, which prepares their data)" if data_jobs else ""
    print(f"sweep   {sweep.sweep_id}\nruns    {len(launched.runs):,}, {launched.runs[0].root.name} and on")
    print(f"job     {', '.join(jobs)}{after}\nfolder  {launched.folder.root}")
    listing = f"launcher ls --sweep {sweep.sweep_id}"
    print(f"next    {listing}\n        {listing} --best eval_loss")
