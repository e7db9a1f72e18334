"""`launcher ls`: the runs there are, the newest at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from launcher.cli.options import json_argument, print_json, runs_root
from launcher.cluster.protocol import Job, QueueState
from launcher.config.cluster import ClusterKind
from launcher.errors import ClusterError, ExitCode
from launcher.plain import plain
from launcher.runs.find import all_runs
from launcher.runs.status import AskQueue, Status, ask_cluster, status

HEADINGS = ("RUN", "STATE", "STEP", "CHECKPOINT", "ATTEMPTS", "JOB")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Print a table, or a JSON list of what `status` prints."""
    root = runs_root(options)
    ask = asking_once()
    found = [status(run, ask) for run in all_runs(root)]
    if options.json:
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


def table(found: list[Status]) -> str:
    """Columns under headings."""
    return columns([HEADINGS, *(_row(item) for item in found)])


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
