"""Before the ranks: on the first node, allots the attempt, prepares the data and finds the meeting point.

`python -m launcher.node.prologue RUN_DIR` prints the `export` lines that the ranks inherit. No torch, and no process
group whose timeout could expire over tokenisation.
"""

from __future__ import annotations

import itertools
import os
import shlex
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

from launcher.checkpoint.copies import convert_apart
from launcher.data.prepare import prepare
from launcher.data.progress import shown
from launcher.errors import ExitCode, LauncherError, Problem, UserError
from launcher.fingerprint import differences
from launcher.models.source import resolve
from launcher.node.logs import redirect_output
from launcher.node.ranks import node_name
from launcher.node.rendezvous import master_address, master_port
from launcher.publish import publish_json
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.runs.job import cancel_requested, read_job
from launcher.runs.outcome import Ending, Outcome

CANCELLED_STATUS = 143
"""Exit status of a job that was cancelled before its ranks started: what SIGTERM would have given."""


def begin_attempt(run: RunDir, job_id: str, restarts: int) -> int:
    """Allot the next attempt and write down its start; the number is nobody else's."""
    run.attempts.mkdir(exist_ok=True)
    for number in itertools.count(1 + max(run.attempt_numbers(), default=0)):
        try:
            run.attempt(number).root.mkdir(mode=0o700)
        except FileExistsError:
            continue
        break
    start = {"attempt": number, "job_id": job_id, "restarts": restarts, "host": node_name()}
    submission = sum(1 for folder in run.submissions.iterdir() if folder.is_dir())
    publish_json(run.attempt(number).start, {**start, "submission": submission, "time": time.time()})
    record(run, Event.attempt_started, number, job_id=job_id, restarts=restarts, host=start["host"])
    return number


def prologue(run: RunDir, attempt: int, job_id: str) -> dict[str, str]:
    """Variables for the ranks: attempt, tokenised data, meeting point. Writes the outcome itself if it fails."""
    try:
        plan = RunPlan.load(run.plan)
        _refuse_changed_inputs(plan)
        model = resolve(plan.config.model)
        convert_apart(run, plan.topology.world_size)
        variables = {"LAUNCHER_ATTEMPT": str(attempt), "LAUNCHER_MODEL": str(model), **_data(plan, model)}
        address, number = master_address(), int(job_id.partition(".")[0])
        variables |= {"MASTER_ADDR": address, "MASTER_PORT": str(master_port(number))}
    except Exception as error:
        message = str(error) if isinstance(error, LauncherError) else traceback.format_exc()
        print(message, file=sys.stderr, flush=True)
        code = error.exit_code if isinstance(error, LauncherError) else ExitCode.BUG
        reason = str(error) if isinstance(error, LauncherError) else f"{type(error).__name__}: {error}"
        end_attempt(run, attempt, job_id, Ending.failed, reason, int(code), None)
        raise SystemExit(int(code)) from error
    job = read_job(run)
    if job is not None and cancel_requested(run, job):
        # Before there are ranks, nobody hears the signal.
        end_attempt(run, attempt, job_id, Ending.stopped, "cancelled before training began", 0, None)
        raise SystemExit(CANCELLED_STATUS)
    return variables


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


def _data(plan: RunPlan, model: Path) -> dict[str, str]:
    folders = {}
    with shown(sys.stderr) as report:
        for name, spec in (("TRAIN", plan.train_data), ("EVAL", plan.eval_data)):
            if spec is not None:
                spec = replace(spec, tokenizer=str(model))
                prepared = prepare(spec, Path(plan.data_cache), workers=plan.config.data.workers, report=report)
                folders[f"LAUNCHER_{name}_TOKENS"] = str(prepared)
    return folders


def end_attempt(
    run: RunDir, attempt: int, job_id: str, state: Ending, reason: str, exit_code: int, step: int | None
) -> None:
    """Write the attempt's outcome, once, and the event that goes with it."""
    Outcome(
        attempt=attempt, job_id=job_id, state=state, reason=reason, exit_code=exit_code, step=step, ended=time.time()
    ).write(run.attempt(attempt))
    record(run, Event.attempt_ended, attempt, state=state.value, reason=reason, exit_code=exit_code, step=step)


def main(run_dir: str) -> None:
    """Entry of the batch script."""
    run = RunDir(Path(run_dir))
    job_id = os.environ["SLURM_JOB_ID"]
    attempt = begin_attempt(run, job_id, int(os.environ.get("SLURM_RESTART_COUNT", "0")))
    answer = os.dup(1)
    redirect_output(run.attempt(attempt).launch_log)
    variables = prologue(run, attempt, job_id)
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    os.write(answer, text.encode())


if __name__ == "__main__":
    main(sys.argv[1])
