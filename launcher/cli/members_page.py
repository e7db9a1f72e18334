"""`launcher ls --sweep ID`: the members of a sweep, in order or the best first."""

from __future__ import annotations

import argparse
import sys

from launcher.cli.ls import HEADINGS, asking_once, columns, row
from launcher.cli.options import print_json, runs_root
from launcher.errors import ExitCode, NotFoundError, Problem
from launcher.plain import plain
from launcher.rundir import RunDir
from launcher.runs.members import Best, Member, best_first, best_of, find_sweep, metrics_of, read_sweep
from launcher.runs.status import Status, status


def list_members(options: argparse.Namespace) -> ExitCode:
    """Print a table, or what `status` prints of each with its overrides. Members that were removed are left out."""
    root = runs_root(options)
    sweep = read_sweep(find_sweep(options.sweep, root))
    members = [member for member in sweep.members if (root / member.run_id / "plan.json").is_file()]
    runs = [RunDir(root / member.run_id) for member in members]
    ask = asking_once(runs)
    found = [status(run, ask) for run in runs]
    best: list[Best | None] = [None] * len(runs)
    order = list(range(len(runs)))
    if options.best is not None:
        best = [best_of(run, options.best) for run in runs]
        _require(best, options.best, runs)
        order = best_first(best, options.best)
    if options.json:
        print_json([_document(found[place], members[place], best[place], options.best) for place in order])
    else:
        print(_table([(found[place], members[place], best[place]) for place in order], options.best))
        gone = len(sweep.members) - len(members)
        if gone:
            print(f"{gone} of {len(sweep.members)} members are no longer there", file=sys.stderr)
    return ExitCode.DONE


def _require(best: list[Best | None], metric: str, runs: list[RunDir]) -> None:
    known = metrics_of(runs)
    if any(one is not None for one in best) or not known:
        return
    message = f"no member has measured {metric!r}"
    raise NotFoundError(Problem(where="--best", message=message, valid=", ".join(known)))


def _document(found: Status, member: Member, best: Best | None, metric: str | None) -> dict[str, object]:
    more = {} if metric is None else {"best": None if best is None else {"metric": metric, **plain(best)}}
    return {**plain(found), "overrides": member.overrides, **more}


def _table(rows: list[tuple[Status, Member, Best | None]], metric: str | None) -> str:
    heading = ("OVERRIDES", *(() if metric is None else (metric, "AT STEP")), *HEADINGS[1:], HEADINGS[0])
    lines = []
    for found, member, best in rows:
        run_id, *rest = row(found)
        measured = ("–", "–") if best is None else (f"{best.value:.6g}", str(best.step))
        lines.append((" ".join(member.overrides), *(() if metric is None else measured), *rest, run_id))
    return columns([heading, *lines])
