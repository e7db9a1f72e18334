"""`launcher submit --more N --sweep ID`: more members of a drawn sweep, from what those that there are have come to."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from launcher.cli.ls import asking_once
from launcher.cli.options import quoted, runs_root
from launcher.cli.sweeping import at_once_problems, flag, sampling_typed, shown, tell
from launcher.config.sampling import SamplingConfig, read_sampling
from launcher.errors import ExitCode, Problem, UserError
from launcher.plain import plain
from launcher.plan.build import Request, plan_request
from launcher.plan.sweep import SweepPlan, plan_drawn
from launcher.rundir import RunDir
from launcher.runs.compare import changed_since
from launcher.runs.job import read_job
from launcher.runs.members import Sampling, SweepRecord, find_sweep, read_sweep
from launcher.runs.sweep import launch_more
from launcher.runs.tried import History, history

MOST_CHANGES = 6
"""More differences of a config than these are counted, and not named."""


def submit_more(options: argparse.Namespace) -> ExitCode:
    """Queue them, or show what would be queued."""
    _refuse(options)
    root = runs_root(options)
    folder = find_sweep(options.sweep, root)
    old = read_sweep(folder)
    sampling = _require_drawn(old)
    how = read_sampling(plain(sampling.how), sampling_typed(options))
    runs = [run for member in old.members if (run := RunDir(root / member.run_id)).plan.is_file()]
    known = history(old.members, root, how.best, asking_once(runs))
    request = _request(old, sampling, root)
    sweep = plan_drawn(request, options.more, how, sweep_id=old.sweep_id, tried=known.tried)
    if shown(sweep, [*_too_early(how, known), *_changed(old, sweep, request, root)], options, known):
        return ExitCode.DONE
    sampling = replace(sampling, how=how, drawn=[*sampling.drawn, options.more])
    at_once = old.at_once if options.at_once is None else options.at_once
    new = replace(old, sampling=sampling, at_once=at_once)
    tell(launch_more(sweep, folder, old, new, known.jobs), sweep, options, known)
    return ExitCode.DONE


def _refuse(options: argparse.Namespace) -> None:
    problems = at_once_problems(options)
    typed = [name for name in ("trials",) if getattr(options, name) is not None]
    typed += [name for name in ("follow",) if getattr(options, name)]
    remedy = "leave it out"
    problems += [Problem(where=flag(name), message="it does not go with --more", remedy=remedy) for name in typed]
    if options.multirun or options.source or options.recipe is not None or options.overrides:
        message = "new members have the recipe and the overrides of the sweep"
        remedy = "write submit --more N --sweep ID, and no more of what to run"
        problems.append(Problem(where="--more", message=message, remedy=remedy))
    if options.sweep is None:
        remedy = "add --sweep ID (or `--sweep last`)"
        problems.append(Problem(where="--more", message="more of which sweep?", remedy=remedy))
    if problems:
        raise UserError(*problems)


def _require_drawn(sweep: SweepRecord) -> Sampling:
    if sweep.sampling is not None:
        return sweep.sampling
    remedy = "submit a new sweep; with --trials N its members are drawn, and --more N draws more"
    message = "each combination of its values is a member already"
    raise UserError(Problem(where=f"sweep {sweep.sweep_id}", message=message, remedy=remedy))


def _request(sweep: SweepRecord, sampling: Sampling, root: Path) -> Request:
    """What was typed for the sweep, where it was typed; but its members are where it is found now."""
    recipe, *words = sweep.typed
    kept = [word for word in words if not word.lstrip("+").startswith("runs_root=")]
    return Request(
        recipe=recipe,
        overrides=[f"runs_root={quoted(str(root))}", *kept],
        config_dir=None if sampling.config_dir is None else Path(sampling.config_dir),
        work_dir=Path(sampling.work_dir),
    )


def _too_early(how: SamplingConfig, known: History) -> Iterator[Problem]:
    if how.sampler.learns and known.measured < how.startup:
        message = f"{known}: {how.sampler.value} begins to learn at {how.startup} measured, and draws at random before"
        yield Problem(where="--more", message=message, remedy="wait for more members, or go on")


def _changed(sweep: SweepRecord, new: SweepPlan, request: Request, root: Path) -> Iterator[Problem]:
    """A doubt if the members that there are would be planned otherwise now."""
    for member in sweep.members:
        run = RunDir(root / member.run_id)
        job = read_job(run) if run.plan.is_file() else None
        # A resume may have changed it.
        if job is None or job.submission > 1:
            continue
        plan = plan_request(replace(request, overrides=[*new.sweep.fixed, *member.overrides]))
        found = [f"{each.name} {each.one} → {each.other}" for each in changed_since(run, plan)]
        if found:
            named = ", ".join(found[:MOST_CHANGES])
            others = f", and {len(found) - MOST_CHANGES} more" if len(found) > MOST_CHANGES else ""
            message = f"{member.run_id} would be planned otherwise by now ({named}{others}); new members are"
            remedy = "undo that, or submit a new sweep, where members are to be compared"
            yield Problem(where=f"sweep {sweep.sweep_id}", message=message, remedy=remedy)
        return
