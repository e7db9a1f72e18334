"""`launcher ls`: the runs there are, the newest at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from launcher.checkpoint.lineage import Lineage, read_lineage
from launcher.cli.options import json_argument, print_json, runs_root
from launcher.cluster.protocol import Job, QueueState
from launcher.config.cluster import ClusterKind
from launcher.errors import ClusterError, ExitCode
from launcher.plain import plain
from launcher.runs.family import forest
from launcher.runs.find import all_runs
from launcher.runs.stages import TRAIN, StageState
from launcher.runs.status import AskQueue, Status, ask_cluster, status

HEADINGS = ("RUN", "STATE", "STEP", "CHECKPOINT", "ATTEMPTS", "JOB")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("--tree", action="store_true", help="each run below the one whose export it began with")
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Print a table, or a JSON list of what `status` prints."""
    root = runs_root(options)
    ask = asking_once()
    runs = all_runs(root)
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


def asking_once() -> AskQueue:
    """Asks the queue, but not again once it could not be reached: each silence costs many seconds."""
    silence: dict[str, ClusterError] = {}

    def ask(job: Job) -> QueueState:
        if job.kind in silence:
            raise silence[job.kind]
        try:
            return ask_cluster(job)
        except ClusterError as error:
            if job.kind == ClusterKind.slurm.value:
                silence[job.kind] = error
            raise

    return ask


def _tree(found: list[Status], lineages: dict[str, Lineage], options: argparse.Namespace) -> None:
    if options.json:
        print_json([{**plain(item), "lineage": plain(lineages.get(item.run_id))} for item in found])
        return
    by_name = {item.run_id: item for item in found}
    parents = {name: lineage.parent for name, lineage in lineages.items() if lineage.parent is not None}
    rows = []
    for branches, name in forest(list(by_name), {child: parent.run_id for child, parent in parents.items()}):
        run_id, *rest = _row(by_name[name])
        parent = parents.get(name)
        rows.append((branches + run_id, *rest, "" if parent is None else f"{parent.run_id} at step {parent.step}"))
    print(columns([(*HEADINGS, "FROM"), *rows]))


def table(found: list[Status]) -> str:
    """Columns under headings."""
    return columns(_with_stages(found, HEADINGS, [_row(item) for item in found]))


def _with_stages(found: list[Status], headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Headings and rows, with one more column where a run is a chain: the stage it has come to after training."""
    if not any(item.stages for item in found):
        return [headings, *rows]
    return [(*headings, "THEN"), *((*row, _then(item)) for row, item in zip(rows, found, strict=True))]


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


def _row(item: Status) -> tuple[str, ...]:
    total = "?" if item.total_steps is None else item.total_steps
    checkpoint = "–" if item.last_checkpoint is None else str(item.last_checkpoint)
    job = item.job_id or "–"
    return item.run_id, item.state.value, f"{item.step}/{total}", checkpoint, str(item.attempts), job
