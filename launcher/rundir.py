"""The run directory's layout: which file lies where. A contract with users' scripts.

Owns names only. What the files hold is the business of those who write them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths inside one run directory."""

    root: Path
    """RUNS_ROOT/RUN_ID."""

    @property
    def plan(self) -> Path:
        """The frozen plan."""
        return self.root / "plan.json"

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.root / "config.yaml"

    @property
    def overrides(self) -> Path:
        """Recipe and overrides as typed, one a line."""
        return self.root / "overrides.txt"

    @property
    def chat_template(self) -> Path:
        """The frozen copy of data.chat_template, where that is set."""
        return self.root / "chat_template.jinja"

    @property
    def reward(self) -> Path:
        """The frozen copy of the file that judges answers, where the objective asks for one."""
        return self.root / "reward.py"

    @property
    def prologue(self) -> Path:
        """The frozen copy of cluster.prologue, where that is set."""
        return self.root / "prologue.sh"

    @property
    def rollouts(self) -> Path:
        """A few answers of every rollout, with their rewards, where the model in training answers."""
        return self.root / "rollouts.jsonl"

    @property
    def answers(self) -> Path:
        """A few answers to held-out rows at every evaluation, with their scores, where they are scored."""
        return self.root / "answers.jsonl"

    @property
    def environment(self) -> Path:
        """Packages, interpreter, commit and diff at submission."""
        return self.root / "env.json"

    @property
    def code(self) -> Path:
        """The snapshot that nodes import."""
        return self.root / "code"

    @property
    def submissions(self) -> Path:
        """What submitit wrote, one folder per submission."""
        return self.root / "submit"

    @property
    def attempts(self) -> Path:
        """One folder per start."""
        return self.root / "attempts"

    @property
    def events(self) -> Path:
        """The run's life, append-only."""
        return self.root / "events.jsonl"

    @property
    def metrics(self) -> Path:
        """One record a step."""
        return self.root / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """What the model answered to the run's prompts, at every evaluation."""
        return self.root / "samples.jsonl"

    @property
    def report(self) -> Path:
        """The run as a page."""
        return self.root / "report.html"

    @property
    def checkpoints(self) -> Path:
        """Committed checkpoints."""
        return self.root / "checkpoints"

    @property
    def reference(self) -> Path:
        """What the untrained model, or a teacher, thinks of each row, where the objective asks for it beforehand."""
        return self.root / "reference"

    @property
    def export(self) -> Path:
        """The exported model."""
        return self.root / "export"

    @property
    def wandb(self) -> Path:
        """W&B's own files."""
        return self.root / "wandb"

    @property
    def wandb_position(self) -> Path:
        """How much of the metrics W&B has been given."""
        return self.wandb / "position.json"

    @property
    def job(self) -> Path:
        """The job that carries, or last carried, the run."""
        return self.submissions / "job.json"

    @property
    def then(self) -> Path:
        """The jobs that follow training; absent if none ever did."""
        return self.submissions / "then.json"

    @property
    def cancel_request(self) -> Path:
        """Exists once a user asked to stop."""
        return self.submissions / "cancel.json"

    @property
    def skipped(self) -> Path:
        """Data windows that were skipped after a rollback; absent if none was."""
        return self.root / "skipped.json"

    @property
    def lineage(self) -> Path:
        """What the model was before the first step: its base, and the run whose export that is."""
        return self.root / "lineage.json"

    @property
    def probe(self) -> Path:
        """What the trained model said of a few fixed tokens when the run ended; exports are held against it."""
        return self.root / "probe.json"

    @property
    def evals(self) -> Path:
        """Benchmarks, a folder each."""
        return self.root / "evals"

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

    @property
    def outcome(self) -> Path:
        """How the attempt ended; absent while it runs."""
        return self.root / "outcome.json"

    @property
    def start(self) -> Path:
        """Job, node and time of the start."""
        return self.root / "start.json"

    @property
    def launch_log(self) -> Path:
        """Log of prologue and epilogue."""
        return self.root / "launch.log"

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

    @property
    def submission(self) -> Path:
        """What submitit wrote, or the log of the process."""
        return self.root / "submit"

    @property
    def results(self) -> Path:
        """What came out; absent until all of it is there."""
        return self.root / "results.json"

    @property
    def failure(self) -> Path:
        """Why nothing came out, where it can be said."""
        return self.root / "failure.json"


@dataclass(frozen=True, slots=True)
class EvalDir:
    """Paths inside the folder of one job that runs benchmarks, or in which a teacher answers."""

    root: Path
    """RUN_DIR/evals/NAME; or, beside the file of a teacher's answers, its name with `.generating`."""

    @property
    def request(self) -> Path:
        """What was asked for."""
        return self.root / "request.json"

    @property
    def code(self) -> Path:
        """The snapshot that the job imports."""
        return self.root / "code"

    @property
    def tasks(self) -> Path:
        """Copies of the task files that were named, and of what they name."""
        return self.root / "tasks"

    @property
    def submission(self) -> Path:
        """What submitit wrote, or the log of the process."""
        return self.root / "submit"

    @property
    def job(self) -> Path:
        """The job that carries it."""
        return self.root / "job.json"

    @property
    def model(self) -> Path:
        """The exported model while it is evaluated, where the run's own export is of another checkpoint."""
        return self.root / "model"

    @property
    def results(self) -> Path:
        """What came out; absent until all of it is there."""
        return self.root / "results.json"

    @property
    def harness(self) -> Path:
        """The same in the harness's own words."""
        return self.root / "harness.json"

    @property
    def failure(self) -> Path:
        """Why nothing came out, where it can be said."""
        return self.root / "failure.json"


@dataclass(frozen=True, slots=True)
class CheckDir:
    """Paths inside the folder of one job that checks a cluster; gone once it has been read."""

    root: Path
    """RUNS_ROOT/.doctor-…."""

    @property
    def request(self) -> Path:
        """What the ranks need to know."""
        return self.root / "request.json"

    @property
    def code(self) -> Path:
        """The snapshot that the job imports."""
        return self.root / "code"

    @property
    def prologue(self) -> Path:
        """The copy of cluster.prologue, where that is set."""
        return self.root / "prologue.sh"

    @property
    def submission(self) -> Path:
        """What submitit wrote."""
        return self.root / "submit"

    @property
    def results(self) -> Path:
        """What the ranks found; absent until all of it is there."""
        return self.root / "results.json"


@dataclass(frozen=True, slots=True)
class SweepDir:
    """Paths inside the folder of what the members of a sweep share. Each member has a run directory of its own."""

    root: Path
    """RUNS_ROOT/.sweeps/SWEEP_ID."""

    @property
    def members(self) -> Path:
        """What was asked for, and the members with what each differs in."""
        return self.root / "sweep.json"

    @property
    def code(self) -> Path:
        """The snapshot that every member's `code` links to."""
        return self.root / "code"

    @property
    def environment(self) -> Path:
        """Packages, interpreter, commit and diff, which every member's `env.json` links to."""
        return self.root / "env.json"

    @property
    def report(self) -> Path:
        """The sweep as a page."""
        return self.root / "report.html"

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

    @property
    def tasks(self) -> Path:
        """A link to each task's run directory, by the task's number from 0."""
        return self.root / "tasks"

    @property
    def log(self) -> Path:
        """What the process printed that runs the tasks on this machine."""
        return self.root / "local.log"

    def process(self, task: int) -> Path:
        """On this machine: the process of a task, once it has begun."""
        return self.root / f"process-{task}"

    def withdrawn(self, task: int) -> Path:
        """On this machine: exists once a task that has not begun never will."""
        return self.root / f"withdrawn-{task}"


def sweep_dir(runs_root: Path, sweep_id: str) -> SweepDir:
    """The folder of a sweep."""
    return SweepDir(runs_root / ".sweeps" / sweep_id)
