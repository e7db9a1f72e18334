"""A new run with the frozen config of an old one: the same again, or with changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from launcher.config.search import search_path
from launcher.plan.build import new_run_id, plan_config
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.resume import apply, measured


def repeat(
    run: RunDir, overrides: Sequence[str], *, work_dir: Path, config_dir: Path | None, runs_root: Path | None
) -> RunPlan:
    """The plan of a new run; the recipe is not read again. UserError with everything that is wrong with it by now."""
    old = RunPlan.load(run.plan)
    composed = apply(old, overrides, search_path(config_dir, work_dir))
    config = composed.config
    if config is not None and runs_root is not None:
        config = replace(config, runs_root=str(runs_root.expanduser().absolute()))
    return plan_config(
        config,
        composed.problems,
        recipe=old.recipe,
        run_id=new_run_id(old.recipe),
        work_dir=work_dir,
        measured=measured(run),
    )
