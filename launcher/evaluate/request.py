"""What `launcher eval` asks a job for, and what comes out: request.json and results.json. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass

from launcher.decode import decode
from launcher.plain import plain
from launcher.publish import publish_json
from launcher.rundir import EvalDir


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """request.json: which benchmarks, of which checkpoint, and how."""

    run_dir: str
    """The run, absolute."""
    name: str
    """Of this evaluation, within the run."""
    tasks: list[str]
    """As the harness calls them."""
    task_files: str | None
    """Hash of the copied task files and of what they name; None where there are only the harness's own tasks."""
    offline: bool
    """Whether nothing is fetched: every task is a file here."""
    step: int | None
    """Checkpoint; None is the one that `launcher export` would take."""
    limit: int | None
    """First so many questions of each task; None asks all."""
    few_shot: int | None
    """Worked examples before each question; None is as the task says."""
    chat: bool
    """Whether questions are put in the chat template."""
    batch_size: int
    """Questions at a time."""
    gpus: int
    """GPUs that the model is spread over."""
    after: str | None
    """The job of the run that must complete first."""
    export: str | None = None
    """Folder of the stage whose export is asked; None where the job sees to that itself."""

    def write(self, folder: EvalDir) -> None:
        """Publish it."""
        publish_json(folder.request, plain(self))

    @classmethod
    def read(cls, folder: EvalDir) -> Request:
        """As it was written."""
        return decode(cls, json.loads(folder.request.read_text(encoding="utf-8")))


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One measure of one task."""

    value: float | None
    """None where it is no number."""
    stderr: float | None
    """Its standard error; None where the harness gives none."""
    higher_is_better: bool | None
    """None where the task does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    """One task."""

    version: str
    """Of the task, by its own word."""
    few_shot: int | None
    """Worked examples before each question; None for groups."""
    samples: int | None
    """Questions asked; None for groups."""
    scores: dict[str, Score]
    """By measure, with the filter in brackets where there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """results.json."""

    run_id: str
    """The run."""
    step: int
    """Checkpoint."""
    checkpoint: str
    """Hash of its manifest."""
    dtype: str
    """Of the weights."""
    request: Request
    """What was asked for."""
    harness: str
    """Name and version."""
    time: float
    """Unix time at the end."""
    seconds: float
    """How long the questions took, loading included."""
    tasks: dict[str, TaskResult]
    """By name."""

    def write(self, folder: EvalDir) -> None:
        """Publish them: from here on the evaluation is done."""
        publish_json(folder.results, plain(self))

    @classmethod
    def read(cls, folder: EvalDir) -> Results | None:
        """None while there are none."""
        if not folder.results.is_file():
            return None
        return decode(cls, json.loads(folder.results.read_text(encoding="utf-8")))
