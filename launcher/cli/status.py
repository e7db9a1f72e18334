"""`launcher status RUN`: where one run stands."""

from __future__ import annotations

import argparse

from launcher.cli.options import json_argument, named_run, print_json, run_argument
from launcher.errors import ExitCode
from launcher.plain import plain
from launcher.runs.stages import TRAIN, Stage, StageState
from launcher.runs.status import Status, status
from launcher.runs.words import counted


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    run_argument(parser)
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Print the status."""
    found = status(named_run(options))
    if options.json:
        print_json(plain(found))
    else:
        print(_page(found))
    return ExitCode.DONE


def _page(found: Status) -> str:
    total = "?" if found.total_steps is None else found.total_steps
    lines = {
        "run": found.run_id,
        "state": found.state.value,
        "reason": found.reason,
        "job": found.job_id,
        "step": f"{found.step} of {total}",
        "checkpoint": "none yet" if found.last_checkpoint is None else f"step {found.last_checkpoint}",
        "attempts": f"{found.attempts}, with {counted(found.lost_steps, 'step')} lost and done again",
        "goodput": None if found.goodput is None else f"{found.goodput:.1%} of the time allocated",
        "interval": None
        if found.checkpoint_interval is None
        else f"checkpoint.every_steps={found.checkpoint_interval} would lose the least time",
        "why": None if found.failure is None else f"`launcher why {found.run_id}` tells more",
    }
    page = [f"{name:<11} {value}" for name, value in lines.items() if value is not None]
    told = stage_lines(found.stages)
    return "\n".join([*page, *(f"{'stages' if line is told[0] else '':<11} {line}" for line in told)])


MOST_REASON = 100
"""Letters of the reason of a stage that was skipped."""


def stage_lines(stages: list[Stage]) -> list[str]:
    """A line for each stage of a chain, and one for the log of each that failed; none for a run that is no chain."""
    lines = []
    for stage in stages:
        # That of training is the run's own, and that of a stage that could not follow repeats one before it.
        told = stage.reason if stage.reason and stage.name != TRAIN else ""
        reason = f": {_short(told) if stage.state is StageState.SKIPPED else told.splitlines()[0]}" if told else ""
        lines.append(f"{stage.name:<8}{stage.state.value:<10} job {stage.job_id}{reason}")
        if stage.state is StageState.FAILED and stage.log is not None:
            lines.append(f"{'':<8}its log is {stage.log}")
    return lines


def _short(text: str) -> str:
    first = text.splitlines()[0]
    return first if len(first) <= MOST_REASON else f"{first[: MOST_REASON - 1]}…"
