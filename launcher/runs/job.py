"""submit/job.json: which job carries a run, and whether its user asked it to stop."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from launcher.cluster.protocol import Job
from launcher.decode import decode
from launcher.errors import Problem, UserError
from launcher.plain import plain
from launcher.publish import publish_json
from launcher.rundir import RunDir


def write_job(run: RunDir, job: Job) -> None:
    """Make `job` the one that carries the run."""
    publish_json(run.job, plain(job))


def read_job(run: RunDir) -> Job | None:
    """The job that carries, or last carried, the run; None if no cluster ever took it."""
    if not run.job.is_file():
        return None
    try:
        return decode(Job, json.loads(run.job.read_text(encoding="utf-8")))
    except (ValueError, AssertionError):
        # Half a record, of a disk that was full or a file edited by hand, names no job.
        return None


def write_cancel_request(run: RunDir, job: Job) -> None:
    """Note that the user wants `job` to stop. It names the submission, so that a resume is not taken for cancelled."""
    publish_json(run.cancel_request, {"time": time.time(), "job_id": job.job_id, "submission": job.submission})


def cancelled_submission(run: RunDir) -> int | None:
    """The submission that the user last asked to stop; None if never."""
    if not run.cancel_request.is_file():
        return None
    return int(json.loads(run.cancel_request.read_text(encoding="utf-8"))["submission"])


def cancel_requested(run: RunDir, job: Job) -> bool:
    """Whether the user asked this very submission to stop."""
    return cancelled_submission(run) == job.submission


def newest_submission(run: RunDir) -> int:
    """Number of the newest submission, one that is just being made included; 0 if there is none."""
    return max((int(folder.name) for folder in run.submissions.iterdir() if folder.is_dir()), default=0)


@contextlib.contextmanager
def claimed_submission(run: RunDir, number: int) -> Iterator[Path]:
    """The folder of submission `number`, made by this call and by no other; gone again if the block raises.

    UserError if somebody else makes that submission at this moment, from whichever machine: a folder can be made once.
    """
    folder = run.submissions / f"{number:04d}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise UserError(
            Problem(
                where=run.root.name,
                message="somebody else is submitting this run at this moment",
                remedy=f"`launcher status {run.root.name}` says what came of it",
            )
        ) from None
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
