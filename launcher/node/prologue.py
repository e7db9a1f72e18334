"""Before the ranks: on the first node, allots the attempt, prepares the data and finds the meeting point.

`python -m launcher.node.prologue RUN_DIR` prints the `export` lines that the ranks inherit. No torch, and no process
group whose timeout could expire over tokenisation.
"""

from __future__ import annotations

import itertools
import os
import shlex
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

from launcher import slurm_commands
from launcher.checkpoint.copies import convert_apart
from launcher.checkpoint.tidy import tidy
from launcher.config.survival import Action
from launcher.errors import ExitCode, LauncherError, Problem, UserError
from launcher.failures import FailureClass
from launcher.faultpoints import Point, reach
from launcher.fingerprint import differences
from launcher.models.source import resolve
from launcher.models.teacher import teacher_folder
from launcher.node.causes import failure_of
from launcher.node.data import prepare_data
from launcher.node.epilogue import LEAVE_S, requeue_if_due
from launcher.node.logs import redirect_output
from launcher.node.ranks import node_name, slurm_job_id
from launcher.node.rendezvous import job_number, meeting_point
from launcher.node.supervisor import Start, batch_output, close, conclude
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.diagnosis import Diagnosis
from launcher.runs.events import Event, record
from launcher.runs.job import cancelled_submission, newest_submission
from launcher.runs.outcome import Ending, Outcome, read_outcomes

CANCELLED_STATUS = 143
"""Exit status of a job that was cancelled before its ranks started: what SIGTERM would have given."""

DECLINED_STATUS = 75
"""Exit status of a job that had nothing to do."""


def admit(run: RunDir, job_id: str, restarts: int, submission: int) -> None:
    """Leave at once where this job has nothing to do here; close the attempts that nobody lived to close.

    A job can come back that should not: of a run that has ended, or has been submitted anew since.
    """
    if submission < newest_submission(run):
        _decline(f"job {job_id} is of submission {submission}, and the run has been submitted again since")
    _close_late(run)
    last = next(iter(reversed(read_outcomes(run))), None)
    start = None if last is None else Start.read(run.attempt(last.attempt))
    if last is None or start is None or start.submission != submission:
        return
    if last.action is Action.stop:
        _decline(f"attempt {last.attempt} was the last one: {last.reason}; {last.advice}")
    due = last.ended + RunPlan.load(run.plan).config.retry.pause_s
    if last.action is Action.requeue_later and "SLURM_JOB_ID" in os.environ and time.time() < due:
        _postpone(run, start, last, due, restarts)


def _decline(reason: str) -> NoReturn:
    print(reason, file=sys.stderr, flush=True)
    raise SystemExit(DECLINED_STATUS)


def _close_late(run: RunDir) -> None:
    starts = [Start.read(run.attempt(number)) for number in run.attempt_numbers()]
    for start, following in zip(starts, [*starts[1:], None], strict=False):
        if start is not None and Outcome.read(run.attempt(start.attempt)) is None:
            said_to = following.said_from if following is not None and following.job_id == start.job_id else None
            close(run, start, 1, said_to=said_to, late=True)


def _postpone(run: RunDir, start: Start, last: Outcome, due: float, restarts: int) -> NoReturn:
    """Slurm holds a requeued job back for as long as it likes; a longer pause takes another round."""
    record(run, Event.postponed, last.attempt, until=round(due))
    refused = slurm_commands.requeue(start.job_id, restarts, [])
    if refused is None:
        time.sleep(LEAVE_S)
    raise SystemExit(DECLINED_STATUS)


def begin_attempt(run: RunDir, job_id: str, restarts: int, submission: int) -> Start:
    """Allot the next attempt and write down its start; the number is nobody else's."""
    run.attempts.mkdir(exist_ok=True)
    for number in itertools.count(1 + max(run.attempt_numbers(), default=0)):
        try:
            run.attempt(number).root.mkdir(mode=0o700)
        except FileExistsError:
            continue
        break
    output = batch_output(run, submission, job_id)
    start = Start(
        attempt=number,
        job_id=job_id,
        submission=submission,
        restarts=restarts,
        host=node_name(),
        nodes=os.environ.get("SLURM_JOB_NODELIST", node_name()),
        said_from=output.stat().st_size if output.is_file() else 0,
        time=time.time(),
    )
    start.write(run.attempt(number))
    record(run, Event.attempt_started, number, job_id=job_id, restarts=restarts, host=start.host, nodes=start.nodes)
    return start


def prologue(run: RunDir, start: Start) -> dict[str, str]:
    """Variables for the ranks: attempt, tokenised data, meeting point. Closes the attempt itself if it fails."""
    try:
        reach(Point.prologue)
        plan = RunPlan.load(run.plan)
        _leave_in_time(run, plan, start)
        _refuse_changed_inputs(plan)
        model = resolve(plan.config.model)
        for step in tidy(run, start.attempt):
            record(run, Event.recovered, start.attempt, step=step)
        convert_apart(run, plan.topology.world_size)
        variables = {"LAUNCHER_ATTEMPT": str(start.attempt), "LAUNCHER_MODEL": str(model)}
        teacher = teacher_folder(plan.config, model)
        if teacher is not None:
            variables["LAUNCHER_TEACHER"] = str(teacher)
        for name, folder in prepare_data(plan, model, plan.config.data.workers).items():
            variables[f"LAUNCHER_{name.upper()}_TOKENS"] = str(folder)
        variables |= meeting_point(job_number(start.job_id))
    except Exception as error:
        message = str(error) if isinstance(error, LauncherError) else traceback.format_exc()
        print(message, file=sys.stderr, flush=True)
        code = error.exit_code if isinstance(error, LauncherError) else ExitCode.BUG
        reason = str(error) if isinstance(error, LauncherError) else f"{type(error).__name__}: {error}"
        end_attempt(run, start, Ending.failed, failure_of(error), reason, int(code))
        raise SystemExit(int(code)) from error
    if cancelled_submission(run) == start.submission:
        # Before there are ranks, nobody hears the signal.
        end_attempt(run, start, Ending.stopped, None, "cancelled before training began", 0)
        raise SystemExit(CANCELLED_STATUS)
    return variables


def _leave_in_time(run: RunDir, plan: RunPlan, start: Start) -> None:
    """End the job, to be requeued, at its time limit: Slurm warns ranks, and there are none yet."""
    if plan.slurm is None:
        return
    ends = slurm_commands.ends_at(start.job_id)
    if ends is None:
        return

    def leave() -> None:
        outcome = end_attempt(
            run, start, Ending.stopped, FailureClass.time_limit, "the time limit came before training could begin", 1
        )
        requeue_if_due(run, start, outcome)
        os._exit(1)

    timer = threading.Timer(max(1.0, ends - plan.lead.seconds - time.time()), leave)
    timer.daemon = True
    timer.start()


def _refuse_changed_inputs(plan: RunPlan) -> None:
    changed = differences(plan)
    if changed:
        raise UserError(
            Problem(
                where=", ".join(changed),
                message="changed on disk between submission and start; this would be another run than was planned",
                remedy="restore the files and `launcher resume`, or submit a new run",
            )
        )


def end_attempt(
    run: RunDir, start: Start, state: Ending, failure: FailureClass | None, reason: str, exit_code: int
) -> Outcome:
    """Close an attempt that never had ranks."""
    diagnosis = Diagnosis(state=state, failure=failure, reason=reason, node=start.host if failure else None)
    return conclude(run, RunPlan.load(run.plan), start, diagnosis, exit_code)


def main(run_dir: str) -> None:
    """Entry of the batch script."""
    run = RunDir(Path(run_dir))
    job_id, submission = slurm_job_id(), int(os.environ["LAUNCHER_SUBMISSION"])
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    admit(run, job_id, restarts, submission)
    start = begin_attempt(run, job_id, restarts, submission)
    answer = os.dup(1)
    redirect_output(run.attempt(start.attempt).launch_log)
    try:
        variables = prologue(run, start)
    except SystemExit:
        outcome = Outcome.read(run.attempt(start.attempt))
        if outcome is not None:
            requeue_if_due(run, start, outcome)
        raise
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    os.write(answer, text.encode())


if __name__ == "__main__":
    main(sys.argv[1])
