"""A teacher's answers to a recipe's rows: what is asked for is frozen beside the file to come, and a job is queued."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.cluster import executor
from launcher.cluster.protocol import Executor, Job, QueueState, StageJob
from launcher.config.cluster import Accelerator, ClusterKind
from launcher.decode import decode
from launcher.errors import DoesNotHoldError, Problem, UserError
from launcher.evaluate.generation_request import PROGRESS, Generated, GenerationRequest, marks_of
from launcher.models.shape import looks_local
from launcher.plain import plain
from launcher.plan.mounts import hub_folders, outermost
from launcher.plan.slurm import eval_job_parameters
from launcher.publish import publish_json
from launcher.rundir import EvalDir
from launcher.runplan import RunPlan
from launcher.runs.freeze import snapshot

MOST_NAME = 40
POLL_S = 1.0
KEY = "--teacher"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What a person typed."""

    teacher: str
    """`--teacher`."""
    revision: str | None
    """`--revision`."""
    out: Path
    """`--out`, absolute."""
    answers: int
    """`--answers`."""
    temperature: float
    """`--temperature`."""
    max_new_tokens: int | None
    """`--max-new-tokens`."""
    batch_size: int
    """`--batch-size`."""
    work_dir: Path
    """Relative paths start here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """A queued job."""

    folder: EvalDir
    """Its folder."""
    job: Job
    """The job."""


def generate(plan: RunPlan, wanted: Wanted, cluster: Executor | None = None) -> Queued:
    """Queue it, to go on where an earlier one for the same file was. UserError for what cannot be done, ClusterError
    if the cluster refuses; then nothing is left that was not there before.
    """
    teacher = _teacher(wanted)
    problems = list(_nonsense(wanted, teacher))
    if problems:
        raise UserError(*problems)
    kind = plan.config.cluster.kind
    carrier = cluster or executor(kind.value)
    folder = EvalDir(wanted.out.with_name(f"{wanted.out.name}.generating"))
    request = _request(plan, wanted, teacher, folder)
    known = folder.request.is_file()
    if known:
        _require_same(folder, request, carrier)
    try:
        if not known:
            _freeze(plan, folder, request)
        name = "generate-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", wanted.out.name)[:MOST_NAME]
        slurm = kind is ClusterKind.slurm
        parameters = _parameters(plan, wanted, teacher, folder, name) if slurm else {}
        job = StageJob(entry="launcher.node.generate_job", folder=folder.root, code=folder.code, parameters=parameters)
        for left in (folder.failure, folder.results):
            left.unlink(missing_ok=True)
        job_id = carrier.submit_stage(plan, job)
    except BaseException:
        if not known:
            shutil.rmtree(folder.root, ignore_errors=True)
        raise
    queued = Job(kind=kind.value, job_id=job_id, host=socket.gethostname(), submission=1)
    publish_json(folder.job, plain(queued))
    return Queued(folder=folder, job=queued)


def _parameters(plan: RunPlan, wanted: Wanted, teacher: str, folder: EvalDir, name: str) -> dict[str, Any]:
    """submitit's."""
    cluster, seen = plan.config.cluster, list[Path]()
    if cluster.software.image is not None:
        known = Path(teacher)
        rows = [Path(path).parent for source in plan.train_data.sources for path in source.paths]
        seen = outermost(
            [wanted.out.parent, *rows, *([known] if known.is_absolute() else hub_folders(cluster.variables))]
        )
    return eval_job_parameters(
        cluster, folder.root, name, prologue=_prologue(folder), mounts=list(map(str, seen)), goes_on=True
    )


def _prologue(folder: EvalDir) -> Path:
    """The job's copy of the site's prologue."""
    return folder.root / "prologue.sh"


def _teacher(wanted: Wanted) -> str:
    """A folder made absolute, or a hub id."""
    path = (wanted.work_dir / Path(wanted.teacher).expanduser()).absolute()
    return str(path) if path.is_dir() or looks_local(wanted.teacher) else wanted.teacher


def _nonsense(wanted: Wanted, teacher: str) -> Iterator[Problem]:
    folder = Path(teacher)
    valid = "a folder with config.json, tokenizer and safetensors, or a hub id (ORG/NAME)"
    if folder.is_absolute() and not folder.is_dir():
        yield Problem(where=KEY, message=f"there is no folder {teacher}", valid=valid)
    elif folder.is_dir() and not ((folder / "config.json").is_file() and any(folder.glob("*.safetensors"))):
        yield Problem(where=KEY, message=f"{teacher} holds no model with weights", valid=valid)
    for flag, value in (
        ("--answers", wanted.answers),
        ("--max-new-tokens", wanted.max_new_tokens),
        ("--batch-size", wanted.batch_size),
    ):
        if value is not None and value < 1:
            yield Problem(where=flag, message=f"{value} is out of range", valid="1 or more")
    if wanted.temperature < 0:
        yield Problem(where="--temperature", message=f"{wanted.temperature} is out of range", valid="0 or more")
    elif wanted.temperature == 0 and wanted.answers > 1:
        message = f"{wanted.answers} answers of the likeliest tokens would be the same"
        yield Problem(where="--answers", message=message, remedy="add --temperature 1, or ask for one")
    if not wanted.out.parent.is_dir():
        yield Problem(where="--out", message=f"there is no folder {wanted.out.parent}", remedy="make it first")
    elif wanted.out.exists():
        yield Problem(where="--out", message=f"{wanted.out} is there already", remedy="name another file, or move it")
    if wanted.out.suffix != ".jsonl":
        yield Problem(where="--out", message=f"{wanted.out.name} is to hold JSON lines", valid="a name in .jsonl")


def _request(plan: RunPlan, wanted: Wanted, teacher: str, folder: EvalDir) -> GenerationRequest:
    config, template = plan.config, plan.config.data.chat_template
    return GenerationRequest(
        out=str(wanted.out),
        teacher=teacher,
        revision=wanted.revision,
        chat_template=None if template is None else str(folder.root / "chat_template.jinja"),
        sources=list(plan.train_data.sources),
        marks=marks_of(plan.train_data.sources),
        seq_len=config.data.seq_len,
        max_new_tokens=wanted.max_new_tokens,
        answers=wanted.answers,
        temperature=wanted.temperature,
        seed=config.train.seed,
        batch_size=wanted.batch_size,
        dtype=config.precision.dtype,
        attention=config.model.attention,
        accelerated=config.cluster.accelerator is not Accelerator.cpu,
    )


def _require_same(folder: EvalDir, request: GenerationRequest, carrier: Executor) -> None:
    """UserError where the folder is that of something else, or of a job that is not over."""
    earlier = GenerationRequest.read(folder)
    differs = [name for name, value in plain(request).items() if plain(earlier)[name] != value]
    if differs:
        raise UserError(
            Problem(
                where="--out",
                message=f"{folder.root} holds answers that were asked for otherwise: {', '.join(differs)}",
                remedy="type what was typed then, name another file, or remove that folder",
            )
        )
    if folder.job.is_file():
        job = decode(Job, json.loads(folder.job.read_text(encoding="utf-8")))
        if carrier.state(job) is not QueueState.gone:
            message = f"job {job.job_id} is at it"
            raise UserError(Problem(where="--out", message=message, remedy=f"wait; its log is in {folder.submission}"))


def _freeze(plan: RunPlan, folder: EvalDir, request: GenerationRequest) -> None:
    folder.root.mkdir(mode=0o700)
    snapshot(folder.code)
    if plan.config.cluster.prologue is not None:
        shutil.copyfile(plan.config.cluster.prologue, _prologue(folder))
    if request.chat_template is not None:
        assert plan.config.data.chat_template is not None
        shutil.copyfile(plan.config.data.chat_template, request.chat_template)
    request.write(folder)


def wait(queued: Queued, report: Callable[[int, int], None], cluster: Executor | None = None) -> Generated:
    """What came out, once the job has ended; DoesNotHoldError when nothing will. `report` is told rows, and of how
    many."""
    carrier, folder = cluster or executor(queued.job.kind), queued.folder
    while True:
        # Asked first: what the job leaves may come between two looks.
        gone = carrier.state(queued.job) is QueueState.gone
        results = Generated.read(folder)
        if results is not None and gone:
            report(results.rows, results.rows)
            return results
        if folder.failure.is_file() and gone:
            reason = json.loads(folder.failure.read_text(encoding="utf-8"))["reason"]
        elif gone:
            reason = f"job {queued.job.job_id} ended without a word; the same command goes on where it was"
        else:
            progress = folder.root / PROGRESS
            if progress.is_file():
                now = json.loads(progress.read_text(encoding="utf-8"))
                report(now["rows"], now["of"])
            time.sleep(POLL_S)
            continue
        remedy = f"the log is in {folder.submission}"
        raise DoesNotHoldError(Problem(where=f"answers for {folder.root.name}", message=reason, remedy=remedy))
