"""What a person means by RUN: an id, the beginning of one, a path, or `last`."""

from __future__ import annotations

from pathlib import Path

from launcher.errors import NotFoundError, Problem, UserError, closest_first
from launcher.rundir import RunDir

LAST = "last"
MOST_NAMED = 20
"""A sweep has more runs that begin alike than a person reads."""


def all_runs(root: Path) -> list[RunDir]:
    """Every run in the runs root, the one planned last at the end."""
    if not root.is_dir():
        return []
    plans = [folder / "plan.json" for folder in root.iterdir() if (folder / "plan.json").is_file()]
    return [RunDir(plan.parent) for plan in sorted(plans, key=lambda plan: (plan.stat().st_mtime_ns, plan.parent.name))]


def find(name: str, runs_root: Path) -> RunDir:
    """The run that `name` means; NotFoundError with the nearest names, UserError where several are meant."""
    if "/" in name or name in (".", ".."):
        return _at(Path(name))
    runs = all_runs(runs_root)
    if name == LAST and runs:
        return runs[-1]
    names = [run.root.name for run in runs]
    matching = [run for run in runs if run.root.name.startswith(name)]
    exact = [run for run in matching if run.root.name == name]
    if exact or len(matching) == 1:
        return (exact or matching)[0]
    if matching:
        more = f", and {len(matching) - MOST_NAMED} more" if len(matching) > MOST_NAMED else ""
        raise UserError(
            Problem(
                where=f"run {name!r}",
                message=f"{len(matching)} runs begin with that",
                valid=", ".join(run.root.name for run in matching[:MOST_NAMED]) + more,
                remedy="type more of it",
            )
        )
    raise NotFoundError(
        Problem(
            where=f"run {name!r}",
            message=f"there is no such run in {runs_root}",
            valid=", ".join(closest_first(name, reversed(names))) or "(there are no runs)",
            remedy="`launcher ls` lists all; --runs-root DIR, or LAUNCHER_RUNS_ROOT, looks elsewhere",
        )
    )


def _at(path: Path) -> RunDir:
    run = RunDir(path.expanduser().absolute())
    if not run.plan.is_file():
        raise NotFoundError(
            Problem(where=f"run {str(path)!r}", message="there is no run directory there (no plan.json)")
        )
    return run
