"""The run directory's layout: which file lies where. A contract with users' scripts.

Owns names only. What the files hold is the business of those who write them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Folder(Protocol):
    """Whatever lies in a folder of its own."""

    @property
    def root(self) -> Path:
        """The folder."""


class Inside:
    """A path by its name inside the folder: `RunDir(root).plan` is `root / "plan.json"`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: Folder, owner: type) -> Path:
        return folder.root / self._name


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths inside one run directory."""

    root: Path
    """RUNS_ROOT/RUN_ID."""

    plan = Inside("plan.json")
    """The frozen plan."""
    config = Inside("config.yaml")
    """The resolved config."""
    overrides = Inside("overrides.txt")
    """Recipe and overrides as typed, one a line."""
    chat_template = Inside("chat_template.jinja")
    """The frozen copy of data.chat_template, where that is set."""
    reward = Inside("reward.py")
    """The frozen copy of the file that judges answers, where the objective asks for one."""
    prologue = Inside("prologue.sh")
    """The frozen copy of cluster.prologue, where that is set."""
    rollouts = Inside("rollouts.jsonl")
    """A few answers of every rollout, with their rewards, where the model in training answers."""
    answers = Inside("answers.jsonl")
    """A few answers to held-out rows at every evaluation, with their scores, where they are scored."""
    environment = Inside("env.json")
    """Packages, interpreter, commit and diff at submission."""
    code = Inside("code")
    """The snapshot that nodes import."""
    submissions = Inside("submit")
    """What submitit wrote, one folder per submission."""
    attempts = Inside("attempts")
    """One folder per start."""
    events = Inside("events.jsonl")
    """The run's life, append-only."""
    metrics = Inside("metrics.jsonl")
    """One record a step."""
    samples = Inside("samples.jsonl")
    """What the model answered to the run's prompts, at every evaluation."""
    report = Inside("report.html")
    """The run as a page."""
    checkpoints = Inside("checkpoints")
    """Committed checkpoints."""
    reference = Inside("reference")
    """What the untrained model, or a teacher, thinks of each row, where the objective asks for it beforehand."""
    export = Inside("export")
    """The exported model."""
    wandb = Inside("wandb")
    """W&B's own files."""
    wandb_position = Inside("wandb/position.json")
    """How much of the metrics W&B has been given."""
    job = Inside("submit/job.json")
    """The job that carries, or last carried, the run."""
    then = Inside("submit/then.json")
    """The jobs that follow training; absent if none ever did."""
    cancel_request = Inside("submit/cancel.json")
    """Exists once a user asked to stop."""
    skipped = Inside("skipped.json")
    """Data windows that were skipped after a rollback; absent if none was."""
    lineage = Inside("lineage.json")
    """What the model was before the first step: its base, and the run whose export that is."""
    probe = Inside("probe.json")
    """What the trained model said of a few fixed tokens when the run ended; exports are held against it."""
    evals = Inside("evals")
    """Benchmarks, a folder each."""

    def evaluation(self, name: str) -> EvalDir:
        """Folder of the benchmarks of that name."""
        return EvalDir(self.evals / name)

    def attempt(self, number: int) -> AttemptDir:
        """Folder of the attempt with that number, from 1."""
        return AttemptDir(self.attempts / f"{number:04d}")

    def attempt_numbers(self) -> list[int]:
        """All attempts there have been, in order."""
        if not self.attempts.is_dir():
            return []
        return sorted(int(folder.name) for folder in self.attempts.iterdir() if folder.name.isdigit())


@dataclass(frozen=True, slots=True)
class AttemptDir:
    """Paths inside one attempt's folder."""

    root: Path
    """RUN_DIR/attempts/NNNN."""

    outcome = Inside("outcome.json")
    """How the attempt ended; absent while it runs."""
    start = Inside("start.json")
    """Job, node and time of the start."""
    launch_log = Inside("launch.log")
    """Log of prologue and epilogue."""

    def rank_log(self, rank: int) -> Path:
        """Everything a rank printed."""
        return self.root / f"rank-{rank:05d}.log"

    def rank_record(self, rank: int) -> Path:
        """How a rank ended, by its own word."""
        return self.root / f"rank-{rank:05d}.json"

    def stacks(self, rank: int) -> Path:
        """Where a rank's watchdog dumps stacks; gone after a good end."""
        return self.root / f"rank-{rank:05d}.stacks"

    def skipped_rows(self, step: int) -> Path:
        """The samples that were skipped after going back to `step`."""
        return self.root / f"skipped-{step:08d}.json"


@dataclass(frozen=True, slots=True)
class StageDir:
    """Paths that the folders of all jobs that follow training have in common."""

    root: Path
    """RUN_DIR/submit/NNNN/export, or RUN_DIR/evals/NAME."""

    submission = Inside("submit")
    """What submitit wrote, or the log of the process."""
    results = Inside("results.json")
    """What came out; absent until all of it is there."""
    failure = Inside("failure.json")
    """Why nothing came out, where it can be said."""


@dataclass(frozen=True, slots=True)
class EvalDir:
    """Paths inside the folder of one job that runs benchmarks, or in which a teacher answers."""

    root: Path
    """RUN_DIR/evals/NAME; or, beside the file of a teacher's answers, its name with `.generating`."""

    request = Inside("request.json")
    """What was asked for."""
    code = Inside("code")
    """The snapshot that the job imports."""
    tasks = Inside("tasks")
    """Copies of the task files that were named, and of what they name."""
    submission = Inside("submit")
    """What submitit wrote, or the log of the process."""
    job = Inside("job.json")
    """The job that carries it."""
    model = Inside("model")
    """The exported model while it is evaluated, where the run's own export is of another checkpoint."""
    results = Inside("results.json")
    """What came out; absent until all of it is there."""
    harness = Inside("harness.json")
    """The same in the harness's own words."""
    failure = Inside("failure.json")
    """Why nothing came out, where it can be said."""


@dataclass(frozen=True, slots=True)
class CheckDir:
    """Paths inside the folder of one job that checks a cluster; gone once it has been read."""

    root: Path
    """RUNS_ROOT/.doctor-…."""

    request = Inside("request.json")
    """What the ranks need to know."""
    code = Inside("code")
    """The snapshot that the job imports."""
    prologue = Inside("prologue.sh")
    """The copy of cluster.prologue, where that is set."""
    submission = Inside("submit")
    """What submitit wrote."""
    results = Inside("results.json")
    """What the ranks found; absent until all of it is there."""


@dataclass(frozen=True, slots=True)
class SweepDir:
    """Paths inside the folder of what the members of a sweep share. Each member has a run directory of its own."""

    root: Path
    """RUNS_ROOT/.sweeps/SWEEP_ID."""

    members = Inside("sweep.json")
    """What was asked for, and the members with what each differs in."""
    code = Inside("code")
    """The snapshot that every member's `code` links to."""
    environment = Inside("env.json")
    """Packages, interpreter, commit and diff, which every member's `env.json` links to."""
    report = Inside("report.html")
    """The sweep as a page."""

    def more(self, number: int) -> SweepDir:
        """What members share that were drawn later, `number` 2 and on: as the first have it here, less the list."""
        return SweepDir(self.root / "more" / str(number))

    def array(self, number: int) -> ArrayDir:
        """Folder of its array of that number, from 1."""
        return ArrayDir(self.root / "arrays" / str(number))


@dataclass(frozen=True, slots=True)
class ArrayDir:
    """Paths inside the folder of an array, beside what submitit writes there."""

    root: Path
    """SWEEP_DIR/arrays/N."""

    tasks = Inside("tasks")
    """A link to each task's run directory, by the task's number from 0."""
    log = Inside("local.log")
    """What the process printed that runs the tasks on this machine."""

    def process(self, task: int) -> Path:
        """On this machine: the process of a task, once it has begun."""
        return self.root / f"process-{task}"

    def withdrawn(self, task: int) -> Path:
        """On this machine: exists once a task that has not begun never will."""
        return self.root / f"withdrawn-{task}"


def sweep_dir(runs_root: Path, sweep_id: str) -> SweepDir:
    """The folder of a sweep."""
    return SweepDir(runs_root / ".sweeps" / sweep_id)
