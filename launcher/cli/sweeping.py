"""`launcher submit RECIPE -m …`: plan every member, freeze and queue them together.

With `--trials N` a sampler draws the members; without, every combination of values is one.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.cli.options import overrides, print_json, print_warnings, refuse_if_strict
from launcher.errors import ExitCode, Problem, UserError

if TYPE_CHECKING:
    from launcher.plan.build import Request
    from launcher.plan.sweep import SweepPlan
    from launcher.runs.members import Sampling
    from launcher.runs.sweep import LaunchedSweep
    from launcher.runs.tried import History

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
    parser.add_argument("--trials", type=int, metavar="N", help="of a sweep: N runs that a sampler draws")
    parser.add_argument("--sampler", metavar="NAME", help="which: tpe, gp, qmc, random (or conf/sweep.yaml says)")
    parser.add_argument("--best", metavar="METRIC", help="what the sampler is to make good (or conf/sweep.yaml says)")
    parser.add_argument("--sample-seed", type=int, metavar="N", help="of the sampler: the same draws the same runs")
    parser.add_argument("--more", type=int, metavar="N", help="N more runs of a drawn sweep, from what it has come to")
    parser.add_argument("--sweep", metavar="ID", help="which sweep gets more (or `last`)")


_SAMPLING = ("sampler", "best", "sample_seed")


def sampling_typed(options: argparse.Namespace) -> dict[str, object]:
    """What was typed of how members are drawn; None where nothing was."""
    return {"sampler": options.sampler, "best": options.best, "seed": options.sample_seed}


def refuse_without_sweep(options: argparse.Namespace) -> None:
    """UserError for what has a meaning for a sweep only."""
    typed = [name for name in ("at_once", "trials", *_SAMPLING) if getattr(options, name) is not None]
    remedy = "write -m and give several values, or leave it out"
    problems = [Problem(where=flag(name), message="there is one run, not a sweep", remedy=remedy) for name in typed]
    if options.sweep is not None:
        remedy = "add --more N, which draws more members"
        problems.append(Problem(where="--sweep", message="a new run is no member of a sweep", remedy=remedy))
    if problems:
        raise UserError(*problems)


def flag(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"


def submit_sweep(options: argparse.Namespace) -> ExitCode:
    """Queue the sweep, or show what would be queued."""
    from launcher.plan.build import Request

    _refuse(options)
    typed = overrides(options)
    request = Request(recipe=options.recipe, overrides=typed, config_dir=options.config_dir, work_dir=Path.cwd())
    # Looking for garbage among thousands of plans, none of which is any, takes a third of all the time.
    gc.set_threshold(ALLOCATIONS)
    sweep, sampling = _planned(request, options)
    gc.freeze()
    if shown(sweep, [], options):
        return ExitCode.DONE
    from launcher.runs.sweep import launch_sweep

    words = [options.recipe, *typed]
    tell(launch_sweep(sweep, words, at_once=options.at_once, sampling=sampling), sweep, options)
    return ExitCode.DONE


def _planned(request: Request, options: argparse.Namespace) -> tuple[SweepPlan, Sampling | None]:
    """The members, and how they were drawn if they were."""
    from launcher.plan.sweep import plan_drawn, plan_sweep

    if options.trials is None:
        return plan_sweep(request), None
    from launcher.config.compose import sampling_values
    from launcher.config.sampling import read_sampling
    from launcher.config.search import search_path
    from launcher.runs.members import Sampling

    values = sampling_values(search_path(request.config_dir, request.work_dir))
    how = read_sampling(values, sampling_typed(options))
    config_dir = None if request.config_dir is None else str(request.config_dir.absolute())
    sampling = Sampling(how=how, work_dir=str(request.work_dir), config_dir=config_dir, drawn=[options.trials])
    return plan_drawn(request, options.trials, how), sampling


def shown(sweep: SweepPlan, more: Sequence[Problem], options: argparse.Namespace, known: History | None = None) -> bool:
    """Tell of what is likely wrong, `more` of it besides; whether that was a dry run, and members were shown."""
    found = list(dict.fromkeys([*more, *(problem for plan in sweep.plans for problem in plan.warnings)]))
    refuse_if_strict(found, options)
    if options.dry_run:
        _show(sweep, options, known)
    else:
        print_warnings(found)
    return bool(options.dry_run)


def _refuse(options: argparse.Namespace) -> None:
    problems: list[Problem] = []
    if options.sweep is not None:
        remedy = "leave -m, recipe and overrides out, and write --more N --sweep ID; or leave --sweep out"
        problems.append(Problem(where="--sweep", message="-m makes a new sweep", remedy=remedy))
    if options.trials is None:
        typed = [name for name in _SAMPLING if getattr(options, name) is not None]
        message, remedy = "nothing is drawn: every combination is a member", "add --trials N, or leave it out"
        problems += [Problem(where=flag(name), message=message, remedy=remedy) for name in typed]
    if options.source is not None:
        remedy = "write submit RECIPE -m …, with the run's overrides.txt as overrides"
        problems.append(Problem(where="--from", message="a sweep starts from a recipe", remedy=remedy))
    elif options.recipe is None:
        problems.append(Problem(where="submit", message="there is no recipe", remedy="write submit RECIPE -m …"))
    if options.follow:
        remedy = "leave it out; `launcher ls --sweep ID` shows where all of them stand"
        problems.append(Problem(where="--follow", message="it watches one run, and a sweep has many", remedy=remedy))
    problems += at_once_problems(options)
    if problems:
        raise UserError(*problems)


def at_once_problems(options: argparse.Namespace) -> list[Problem]:
    """What is wrong with `--at-once`."""
    if options.at_once is None or options.at_once >= 1:
        return []
    return [Problem(where="--at-once", message=f"{options.at_once} is out of range", valid="1 or more")]


def _show(sweep: SweepPlan, options: argparse.Namespace, known: History | None) -> None:
    if options.json:
        print_json([plan.to_json() for plan in sweep.plans])
        return
    from launcher.cli.page import page

    print(page(sweep.plans[0]))
    if known is not None:
        print(f"\nDrawn from {known}")
    print(f"\n{len(sweep.plans):,} members; above is the first, and they differ in")
    for plan, member in list(zip(sweep.plans, sweep.sweep.members, strict=True))[:SHOWN]:
        print(f"  {plan.run_id}  {' '.join(member)}")
    if len(sweep.plans) > SHOWN:
        print(f"  … and {len(sweep.plans) - SHOWN:,} more")
    print("\nnothing was submitted (--dry-run)", file=sys.stderr)


def tell(launched: LaunchedSweep, sweep: SweepPlan, options: argparse.Namespace, known: History | None = None) -> None:
    """What was queued; `known` is what it was drawn from."""
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
    if known is not None:
        print(f"from    {known}")
    print(f"sweep   {sweep.sweep_id}\nruns    {len(launched.runs):,}, {launched.runs[0].root.name} and on")
    print(f"job     {', '.join(jobs)}{after}\nfolder  {launched.folder.root}")
    listing = f"launcher ls --sweep {sweep.sweep_id}"
    print(f"next    {listing}\n        {listing} --best eval_loss")
