"""`launcher eval RUN --tasks …`: benchmarks of an export, as a job; `launcher eval A [B]`: what came out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launcher.cli.ls import columns
from launcher.cli.options import json_argument, print_json, runs_root
from launcher.errors import ExitCode, NotFoundError, Problem, UserError
from launcher.evaluate.side_by_side import Found, Row, evaluations, side_by_side
from launcher.plain import plain
from launcher.rundir import RunDir
from launcher.runs.find import find

ASKING = ("step", "limit", "few_shot", "chat", "batch_size", "follow")
"""Options that need `--tasks`."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("names", nargs="+", metavar="RUN", help="a run; without --tasks one or two, to be compared")
    parser.add_argument("--tasks", metavar="A,B", help="tasks of lm-evaluation-harness, or task files (.yaml)")
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint (the one that `export` takes)")
    parser.add_argument("--limit", type=int, metavar="N", help="ask the first N questions of each task")
    parser.add_argument("--few-shot", type=int, metavar="K", help="worked examples before each (as the task says)")
    parser.add_argument("--chat", action="store_true", default=None, help="ask in the model's chat template")
    parser.add_argument("--batch-size", type=int, metavar="N", help="questions at a time (8)")
    parser.add_argument("--follow", action="store_true", default=None, help="wait for the results, and print them")
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Queue the benchmarks, or print the results of earlier ones."""
    found = [find(name, runs_root(options)) for name in options.names]
    if options.tasks is None:
        _require_comparison(found, options)
        _compare(found, options)
    elif len(found) > 1:
        raise UserError(Problem(where="--tasks", message=f"{len(found)} runs at once", remedy="ask one at a time"))
    else:
        _ask(found[0], options)
    return ExitCode.DONE


def _require_comparison(found: list[RunDir], options: argparse.Namespace) -> None:
    typed = [f"--{name.replace('_', '-')}" for name in ASKING if getattr(options, name) is not None]
    if typed:
        raise UserError(Problem(where=typed[0], message="what is to be asked?", remedy="add --tasks A,B"))
    if len(found) > 2:
        raise UserError(Problem(where="RUN", message=f"{len(found)} runs", valid="one, or two side by side"))


def _ask(found: RunDir, options: argparse.Namespace) -> None:
    from launcher.runs.evaluate import Asked, evaluate, wait

    tasks = [task for task in options.tasks.split(",") if task]
    if not tasks:
        raise UserError(Problem(where="--tasks", message="it names none", valid="hellaswag,arc_easy, my_task.yaml, …"))
    asked = Asked(
        tasks=tasks,
        step=options.step,
        limit=options.limit,
        few_shot=options.few_shot,
        chat=bool(options.chat),
        batch_size=8 if options.batch_size is None else options.batch_size,
        work_dir=Path.cwd(),
    )
    queued = evaluate(found, asked)
    folder = queued.folder.root
    if options.follow:
        results = wait(queued)
        if options.json:
            print_json(plain(results))
        else:
            print(_table([found], side_by_side([[results]])))
    elif options.json:
        print_json({"name": folder.name, "folder": str(folder), "job_id": queued.job.job_id, "after": queued.after})
    else:
        after = f" (after job {queued.after}, which trains)" if queued.after else ""
        print(f"eval    {folder.name}\njob     {queued.job.job_id}{after}\nfolder  {folder}")
        print(f"next    launcher eval {found.root.name}")


def _compare(found: list[RunDir], options: argparse.Namespace) -> None:
    told = [evaluations(run) for run in found]
    silent = [run.root.name for run, results in zip(found, told, strict=True) if not results]
    if silent:
        raise NotFoundError(
            Problem(
                where=f"run {silent[0]}",
                message="it has no results of benchmarks",
                remedy=f"`launcher eval {silent[0]} --tasks …`; events.jsonl tells of those under way or failed",
            )
        )
    rows = side_by_side(told)
    if options.json:
        print_json({"runs": [run.root.name for run in found], "rows": [_document(row) for row in rows]})
        return
    print(_table(found, rows))
    for task, unlike in {row.task: row.unlike for row in rows if row.unlike}.items():
        print(f"{task} was not asked alike: {'; '.join(unlike)}", file=sys.stderr)


def _document(row: Row) -> dict[str, object]:
    values = [None if item is None else {**plain(item.score), "step": item.results.step} for item in row.found]
    about = {"task": row.task, "measure": row.measure, "values": values}
    return {**about, "difference": row.difference, "stderr": row.stderr, "unlike": row.unlike}


def _table(found: list[RunDir], rows: list[Row]) -> str:
    names = [run.root.name for run in found]
    headings = ("TASK", "MEASURE", *names, *(("DIFFERENCE",) if len(found) == 2 else ()))
    return columns([headings, *(_row(row, pair=len(found) == 2) for row in rows)])


def _row(row: Row, *, pair: bool) -> tuple[str, ...]:
    cells = [_cell(item) for item in row.found]
    last = () if not pair else (_number(row.difference, row.stderr, sign="+"),)
    return row.task, row.measure, *cells, *last


def _cell(found: Found | None) -> str:
    return "–" if found is None else _number(found.score.value, found.score.stderr)


def _number(value: float | None, stderr: float | None, sign: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:{sign}.4f}" + ("" if stderr is None else f" ± {stderr:.4f}")
