"""`launcher ls`: the runs there are, the newest at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from launcher.checkpoint.lineage import Lineage, read_lineage
from launcher.cli.options import json_argument, print_json, runs_root
from launcher.cluster import executor
from launcher.cluster.protocol import Job, QueueState
from launcher.config.cluster import ClusterKind
from launcher.errors import ClusterError, ExitCode, Problem, UserError
from launcher.plain import plain
from launcher.rundir import RunDir
from launcher.runs.family import forest
from launcher.runs.find import all_runs
from launcher.runs.job import read_job
from launcher.runs.stages import TRAIN, StageState
from launcher.runs.status import AskQueue, Status, ask_cluster, status

HEADINGS = ("RUN", "STATE", "STEP", "CHECKPOINT", "ATTEMPTS", "JOB")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--sweep", metavar="ID", help="the members of that sweep (or `last`), with what they differ in")
    parser.add_argument("--best", metavar="METRIC", help="of a sweep: the best by eval_loss, eval_accuracy, … first")
    parser.add_argument("--tree", action="store_true", help="each run below the one whose export it began with")
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Print a table, or a JSON list of what `status` prints."""
    root = runs_root(options)
    if options.sweep is not None:
        from launcher.cli.members_page import list_members

        return list_members(options)
    if options.best is not None:
        raise UserError(Problem(where="--best", message="it compares members of a sweep", remedy="add --sweep ID"))
    runs = all_runs(root)
    ask = asking_once(runs)
    found = [status(run, ask) for run in runs]
    if options.tree and found:
        _tree(found, {run.root.name: lineage for run in runs if (lineage := read_lineage(run)) is not None}, options)
    elif options.json:
        print_json([plain(item) for item in found])
    elif found:
        print(table(found))
    else:
        print(f"there are no runs in {root}", file=sys.stderr)
    return ExitCode.DONE


def asking_once(runs: Sequence[RunDir]) -> AskQueue:
    """Asks each queue about all of `runs` together, and only where one of them needs it.

    A queue that could not be reached is not asked again: each silence costs many seconds.
    """
    jobs = [job for job in map(read_job, runs) if job is not None]
    answers: dict[str, Mapping[str, QueueState]] = {}
    silence: dict[str, ClusterError] = {}

    def ask(job: Job) -> QueueState:
        if job.kind == ClusterKind.local.value:
            return ask_cluster(job)
        if job.kind in silence:
            raise silence[job.kind]
        try:
            if job.kind not in answers:
                answers[job.kind] = executor(job.kind).states([other for other in jobs if other.kind == job.kind])
        except ClusterError as error:
            silence[job.kind] = error
            raise
        known = answers[job.kind].get(job.job_id)
        # Submitted anew since it was read.
        return ask_cluster(job) if known is None else known

    return ask


def _tree(found: list[Status], lineages: dict[str, Lineage], options: argparse.Namespace) -> None:
    if options.json:
        print_json([{**plain(item), "lineage": plain(lineages.get(item.run_id))} for item in found])
        return
    by_name = {item.run_id: item for item in found}
    parents = {name: lineage.parent for name, lineage in lineages.items() if lineage.parent is not None}
    rows = []
    for branches, name in forest(list(by_name), {child: parent.run_id for child, parent in parents.items()}):
        run_id, *rest = row(by_name[name])
        parent = parents.get(name)
        rows.append((branches + run_id, *rest, "" if parent is None else f"{parent.run_id} at step {parent.step}"))
    print(columns([(*HEADINGS, "FROM"), *rows]))


def table(found: list[Status]) -> str:
    """Columns under headings."""
    return columns(_with_stages(found, HEADINGS, [row(item) for item in found]))


def _with_stages(found: list[Status], headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Headings and rows, with one more column where a run is a chain: the stage it has come to after training."""
    if not any(item.stages for item in found):
        return [headings, *rows]
    return [(*headings, "THEN"), *((*cells, _then(item)) for cells, item in zip(rows, found, strict=True))]


def _then(item: Status) -> str:
    later = [stage for stage in item.stages if stage.name not in ("prepare", TRAIN)]
    if not later:
        return ""
    stage = next((stage for stage in later if stage.state is not StageState.COMPLETED), later[-1])
    return f"{stage.name} {stage.state.value}"


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of as many cells each, aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def row(item: Status) -> tuple[str, ...]:
    """One run's cells."""
    total = "?" if item.total_steps is None else item.total_steps
    checkpoint = "–" if item.last_checkpoint is None else str(item.last_checkpoint)
    job = item.job_id or "–"
    return item.run_id, item.state.value, f"{item.step}/{total}", checkpoint, str(item.attempts), job
