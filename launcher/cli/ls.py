"""`launcher ls`: the runs there are, the newest at the end."""

from __future__ import annotations

import argparse
import sys

from launcher.cli.options import json_argument, print_json, runs_root
from launcher.errors import ExitCode
from launcher.runplan import plain
from launcher.runs.find import all_runs
from launcher.runs.status import Status, status

HEADINGS = ("RUN", "STATE", "STEP", "CHECKPOINT", "ATTEMPTS", "JOB")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Print a table, or a JSON list of what `status` prints."""
    root = runs_root(options)
    found = [status(run) for run in all_runs(root)]
    if options.json:
        print_json([plain(item) for item in found])
    elif found:
        print(table(found))
    else:
        print(f"there are no runs in {root}", file=sys.stderr)
    return ExitCode.DONE


def table(found: list[Status]) -> str:
    """Columns under headings."""
    rows = [HEADINGS, *(_row(item) for item in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(item: Status) -> tuple[str, ...]:
    total = "?" if item.total_steps is None else item.total_steps
    checkpoint = "–" if item.last_checkpoint is None else str(item.last_checkpoint)
    job = item.job_id or "–"
    return item.run_id, item.state.value, f"{item.step}/{total}", checkpoint, str(item.attempts), job
