"""Stand-ins: a model directory without weights, Slurm's commands, run directories as a run would leave them."""

from __future__ import annotations

import functools
import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.checkpoint.manifest import MANIFEST_VERSION, Manifest, Shard, step_folder
from launcher.cluster.protocol import Job, QueueState, StageJob
from launcher.config.survival import Action
from launcher.digest import file_sha256
from launcher.errors import ClusterError, Problem
from launcher.failures import FailureClass
from launcher.plain import plain
from launcher.plan.build import Request, plan_request
from launcher.publish import append_record, publish_json
from launcher.rundir import RunDir
from launcher.runs.events import Event, record
from launcher.runs.freeze import freeze
from launcher.runs.job import write_job
from launcher.runs.outcome import Ending, Outcome

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "tie_word_embeddings": False,
}


def write_tiny_model(folder: Path) -> Path:
    """config.json and tokenizer.json, written by hand: no torch, no transformers."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA))
    vocabulary = {"<unk>": 0, "a": 1}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return folder


def write_rows(path: Path, count: int) -> Path:
    """`count` rows of messages."""
    rows = (
        {"messages": [{"role": "user", "content": f"ask {index}"}, {"role": "assistant", "content": "answer"}]}
        for index in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class FakeSlurm:
    """sbatch, squeue, scancel and srun as shell scripts: they note their arguments and answer as files say."""

    def __init__(self, root: Path) -> None:
        self.bin = root / "bin"
        self.bin.mkdir(parents=True)
        self._calls = root / "calls"
        self._state = root / "state"
        self._refusal = root / "refusal"
        note = f'echo "$(basename "$0") $*" >> {self._calls}'
        self._refuse = refuse = f"[ -f {self._refusal} ] && {{ cat {self._refusal} >&2; exit 1; }}; {note}"
        gone = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
        self._write("sbatch", f"{refuse}; echo PENDING > {self._state}; echo 'Submitted batch job 42'")
        # Asked about several jobs, it names each; the one there is may be an array.
        named = f"for task in '' _0 _1 _2; do echo 42$task $(cat {self._state}); done"
        answer = f'case "$*" in *%i*) {named};; *) cat {self._state};; esac'
        self._write("squeue", f"{refuse}; [ -f {self._state} ] && {{ {answer}; }} || {{ {gone}; }}")
        self._write("scancel", refuse)
        self._write("srun", "exit 1")
        self.scontrol("")

    def _write(self, name: str, body: str) -> None:
        script = self.bin / name
        script.write_text(f"#!/bin/bash\n{body}\n")
        script.chmod(0o755)

    def state(self, word: str | None) -> None:
        """What squeue answers; None: it does not know the job."""
        if word is None:
            self._state.unlink(missing_ok=True)
        else:
            self._state.write_text(word + "\n")

    def nodes(self, *names: str, down: tuple[str, ...] = ()) -> None:
        """What sinfo lists."""
        lines = [f"{name} idle" for name in names] + [f"{name} down*" for name in down]
        self._write("sinfo", "".join(f"echo '{line}';" for line in lines))

    def scontrol(self, shown: str, refusing: str | None = None) -> None:
        """What `scontrol show` prints; with `refusing`, a requeue is refused with those words."""
        refused = f"[ $1 = requeue ] && {{ echo '{refusing}' >&2; exit 1; }};" if refusing else ""
        self._write("scontrol", f"{self._refuse}; {refused} [ $1 = show ] && echo '{shown}'; true")

    def show(self, answers: Mapping[str, Path]) -> None:
        """What `scontrol show THING` prints, by thing: a file's content."""
        cases = "".join(f"{thing}) cat {file};; " for thing, file in answers.items())
        self._write("scontrol", f'{self._refuse}; case "$2" in {cases} esac')

    def refuse_after(self, calls: int, words: str) -> None:
        """sbatch takes so many jobs, as 42, 43 …, and then fails with these words."""
        count = f"count=$(grep -c ^sbatch {self._calls})"
        counted = f"{count}; [ $count -le {calls} ] || {{ echo '{words}' >&2; exit 1; }}"
        taken = f"echo PENDING > {self._state}; echo Submitted batch job $((41 + count))"
        self._write("sbatch", f"{self._refuse}; {counted}; {taken}")

    def accept(self) -> None:
        """Refuse no more."""
        self._refusal.unlink()

    def refuse(self, words: str) -> None:
        """From now on every command fails with these words."""
        self._refusal.write_text(words + "\n")

    def calls(self, command: str) -> list[str]:
        """Arguments of each call of a command."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line.removeprefix(f"{command} ") for line in lines if line.startswith(f"{command} ")]


def planned_run(root: Path, *overrides: str) -> RunDir:
    """A frozen run of the demo, never submitted to anybody."""
    model, data = write_tiny_model(root / "model"), write_rows(root / "train.jsonl", 100)
    words = [f"model.path={model}", f"data.train={data}", "data.eval=null", f"runs_root={root / 'runs'}", *overrides]
    plan = plan_request(Request(recipe="demo", overrides=words, config_dir=None, work_dir=root))
    run = freeze(plan, words)
    (run.submissions / "0001").mkdir()
    return run


def slurm_job(job_id: str, submission: int) -> Job:
    """A job of the cluster."""
    return Job(kind="slurm", job_id=job_id, host="here", submission=submission)


class FakeQueue:
    """An Executor whose queue answers from a list, the last answer for ever; counts how often it was asked."""

    def __init__(self, *answers: QueueState | None) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.stopped: list[str] = []
        self.withdrawn: list[str] = []

    def state(self, job: Job) -> QueueState:
        """The next answer; None is an unreachable cluster."""
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            raise ClusterError(Problem(where="Slurm", message="squeue cannot reach the controller"))
        return answer

    def submit(self, plan: object, folder: Path, *, after: str | None = None) -> str:
        """Never called here."""
        raise AssertionError

    def states(self, jobs: Sequence[Job]) -> dict[str, QueueState]:
        """The next answer for each."""
        return {job.job_id: self.state(job) for job in jobs}

    def most_tasks(self) -> int | None:
        """Any number."""
        return None

    def submit_array(self, array: object, folder: Path) -> list[str]:
        """Never called here."""
        raise AssertionError

    def submit_data_job(self, plan: object, folder: Path, also: Sequence[str] = ()) -> str:
        """Never called here."""
        raise AssertionError

    def submit_stage(
        self, plan: object, stage: StageJob, *, after: str | None = None, needs_success: bool = False
    ) -> str:
        """Never called here."""
        raise AssertionError

    def stop(self, job: Job) -> None:
        """Note it."""
        self.stopped.append(job.job_id)

    def withdraw(self, job: Job) -> None:
        """Note it."""
        self.withdrawn.append(job.job_id)


@functools.cache
def demo_plan() -> str:
    """The text of a plan of the demo, for runs that nobody plans."""
    with tempfile.TemporaryDirectory() as folder:
        return planned_run(Path(folder)).plan.read_text()


class MadeRun:
    """A run directory, written step by step as the real writers would."""

    def __init__(self, root: Path, name: str = "demo-1", *, kind: str = "slurm", submitted: bool = True) -> None:
        self.run = RunDir(root / name)
        for folder in (self.run.submissions, self.run.attempts, self.run.checkpoints):
            folder.mkdir(parents=True)
        self.run.plan.write_text("{}")
        self.kind = kind
        self.submissions = 0
        self.started = time.time() - 100
        if submitted:
            self.submit()

    @classmethod
    def of(cls, run: RunDir) -> MadeRun:
        """A run that was frozen and submitted once, to be written on."""
        made = cls.__new__(cls)
        made.run, made.kind, made.submissions, made.started = run, "slurm", 1, time.time() - 100
        return made

    def submit(self, data_job_id: str | None = None) -> None:
        """One more submission, as job 42, 43, …"""
        self.submissions += 1
        (self.run.submissions / f"{self.submissions:04d}").mkdir()
        job = Job(kind=self.kind, job_id=self.job_id, host="here", submission=self.submissions, data_job_id=data_job_id)
        write_job(self.run, job)
        record(self.run, Event.submitted, 0, job_id=self.job_id, kind=self.kind, submission=self.submissions)

    @property
    def job_id(self) -> str:
        """Of the newest submission."""
        return str(41 + self.submissions)

    def begin(self, step: int | None = None, total: int = 10) -> int:
        """A new attempt; with `step`, training has begun after it. Returns its number."""
        number = len(self.run.attempt_numbers()) + 1
        folder = self.run.attempt(number)
        folder.root.mkdir()
        start = {"attempt": number, "job_id": self.job_id, "restarts": 0, "host": "n1", "time": self.started}
        publish_json(folder.start, {**start, "submission": self.submissions})
        record(self.run, Event.attempt_started, number, job_id=self.job_id, restarts=0, host="n1")
        if step is not None:
            record(self.run, Event.training_started, number, step=step, total_steps=total, world_size=2)
        return number

    def steps(self, steps: Iterable[int], step_time_s: float = 1.0) -> None:
        """Training records of the current attempt."""
        attempt = len(self.run.attempt_numbers())
        for step in steps:
            values = {"lr": 0.1, "grad_norm": 1.0, "tokens": 10 * step, "tokens_per_s": 10.0, "mfu": None}
            append_record(
                self.run.metrics,
                {"step": step, "loss": 5 - step / 10, **values, "step_time_s": step_time_s, "attempt": attempt},
            )

    def evaluation(self, step: int, loss: float = 3.0) -> None:
        """An evaluation record of the current attempt."""
        attempt = len(self.run.attempt_numbers())
        append_record(self.run.metrics, {"step": step, "eval_loss": loss, "eval_tokens": 7, "attempt": attempt})

    def checkpoint(self, step: int, *, seconds: float = 1.0, stalled_s: float = 1.0) -> Path:
        """A committed checkpoint of two shards; returns its folder."""
        folder = step_folder(self.run.checkpoints, step)
        folder.mkdir()
        shards = [self._shard(folder, rank) for rank in range(2)]
        Manifest(
            version=MANIFEST_VERSION,
            step=step,
            total_steps=10,
            tokens=10 * step,
            attempt=len(self.run.attempt_numbers()),
            world_size=2,
            zero_stage=3,
            dtype="bf16",
            data="d",
            shards=shards,
        ).write(folder)
        size = sum(shard.size for shard in shards)
        self.event(Event.checkpoint, step=step, seconds=seconds, stalled_s=stalled_s, size=size)
        return folder

    def _shard(self, folder: Path, rank: int) -> Shard:
        path = folder / f"rank-{rank}.pt"
        path.write_bytes(f"weights of rank {rank}".encode())
        return Shard(name=path.name, size=path.stat().st_size, sha256=file_sha256(path), rank=rank)

    def end(
        self,
        state: Ending,
        reason: str = "so it was",
        step: int | None = None,
        *,
        failure: FailureClass | None = None,
        action: Action = Action.stop,
        node: str | None = None,
        advice: str = "",
        after_s: float = 40.0,
    ) -> None:
        """The current attempt's outcome, `after_s` from its start; the next attempt starts there."""
        number = len(self.run.attempt_numbers())
        outcome = Outcome(
            attempt=number,
            job_id=self.job_id,
            state=state,
            failure=failure or (FailureClass.bug if state is Ending.failed else None),
            reason=reason,
            node=node,
            rank=None,
            exit_code=1 if state is Ending.failed else 0,
            step=step,
            started=self.started,
            ended=self.started + after_s,
            action=action,
            advice=advice,
        )
        outcome.write(self.run.attempt(number))
        self.started += after_s
        told = plain(outcome)
        names = ("state", "failure", "reason", "node", "exit_code", "step", "action", "advice")
        record(self.run, Event.attempt_ended, number, **{name: told[name] for name in names})

    def event(self, event: Event, **fields: Any) -> None:
        """Something that happened in the current attempt."""
        record(self.run, event, len(self.run.attempt_numbers()), **fields)
