"""Benchmark results of one run, or of two beside each other. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.evaluate.request import Results, Score, TaskResult
from launcher.rundir import RunDir


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One measure of one task, and where it comes from."""

    score: Score
    """The measure."""
    task: TaskResult
    """Its task."""
    results: Results
    """The evaluation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measure of one task, for each run."""

    task: str
    """Task."""
    measure: str
    """Measure."""
    found: list[Found | None]
    """By run; None where a run was not asked."""
    difference: float | None
    """The second less the first; None unless both are numbers."""
    stderr: float | None
    """Of the difference, as of independent samples; the questions are the same, so it is rather less."""
    unlike: list[str]
    """What was not the same, so that the difference says little."""


def evaluations(run: RunDir) -> list[Results]:
    """All that have results, the oldest first."""
    if not run.evals.is_dir():
        return []
    read = (Results.read(run.evaluation(folder.name)) for folder in run.evals.iterdir() if folder.is_dir())
    return sorted((results for results in read if results is not None), key=lambda results: results.time)


def side_by_side(runs: Sequence[Sequence[Results]]) -> list[Row]:
    """Every measure that any of the runs has; of several evaluations of a task, the newest counts."""
    newest = [_newest(evaluations) for evaluations in runs]
    keys = dict.fromkeys(key for found in newest for key in found)
    return [_row(task, measure, [found.get((task, measure)) for found in newest]) for task, measure in keys]


def _newest(evaluations: Sequence[Results]) -> dict[tuple[str, str], Found]:
    found = {}
    for results in evaluations:
        for name, task in results.tasks.items():
            for measure, score in task.scores.items():
                found[name, measure] = Found(score=score, task=task, results=results)
    return found


def _row(task: str, measure: str, found: list[Found | None]) -> Row:
    difference = stderr = None
    unlike: list[str] = []
    if len(found) == 2 and found[0] is not None and found[1] is not None:
        first, second = found[0], found[1]
        if first.score.value is not None and second.score.value is not None:
            difference = second.score.value - first.score.value
        if first.score.stderr is not None and second.score.stderr is not None:
            stderr = math.hypot(first.score.stderr, second.score.stderr)
        unlike = list(_unlike(first, second))
    return Row(task=task, measure=measure, found=found, difference=difference, stderr=stderr, unlike=unlike)


def _unlike(first: Found, second: Found) -> Iterator[str]:
    pairs = {
        "task version": (first.task.version, second.task.version),
        "task files": (first.results.request.task_files, second.results.request.task_files),
        "few-shot": (first.task.few_shot, second.task.few_shot),
        "questions": (first.task.samples, second.task.samples),
        "chat template": (first.results.request.chat, second.results.request.chat),
        "harness": (first.results.harness, second.results.harness),
    }
    for name, (one, other) in pairs.items():
        if one != other:
            yield f"{name}: {one} and {other}"
