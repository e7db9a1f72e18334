"""The job that runs benchmarks: exports the checkpoint where that has not been done, asks the harness, writes results.

`python -m launcher.node.eval_job FOLDER [JOB]`, or submitit's pickle, on one node. What goes wrong is an event and a
file in the folder; nothing is tried again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path

from launcher.checkpoint.lineage import checkpoint_digest, read_provenance
from launcher.config.cluster import Accelerator
from launcher.errors import ExitCode, LauncherError, Problem, UserError
from launcher.evaluate.request import Request, Results
from launcher.node.local_dir import use_local_dir
from launcher.process_id import process_id
from launcher.publish import publish_json
from launcher.rundir import EvalDir, RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.runs.outcome import Ending, read_outcomes
from launcher.track.wandb_results import tell_wandb

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
POLL_S = 1.0


def main(folder: str, waits_for: str | None = None) -> None:
    """Entry of the job. `waits_for` is a process of this machine; on Slurm the queue has waited already."""
    os.umask(0o077)
    place = EvalDir(Path(folder))
    request = Request.read(place)
    run = RunDir(Path(request.run_dir))
    while waits_for is not None and process_id(int(waits_for.partition(".")[0])) == waits_for:
        time.sleep(POLL_S)
    try:
        use_local_dir()
        results = _evaluate(run, place, request)
    except Exception as error:
        known = isinstance(error, LauncherError)
        print(error if known else traceback.format_exc(), file=sys.stderr, flush=True)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        record(run, Event.eval_failed, 0, name=request.name, reason=reason)
        publish_json(place.failure, {"reason": reason})
        raise SystemExit(int(error.exit_code if isinstance(error, LauncherError) else ExitCode.BUG)) from error
    finally:
        shutil.rmtree(place.model, ignore_errors=True)
    facts = {"name": request.name, "step": results.step, "tasks": list(results.tasks), "seconds": results.seconds}
    record(run, Event.evaluated, 0, **facts, path=str(place.results))
    tell_wandb(run, place)


def _evaluate(run: RunDir, place: EvalDir, request: Request) -> Results:
    """All of it; results.json is there when this returns."""
    started = time.monotonic()
    if request.offline:
        # What the user has set counts; and nothing of Hugging Face's may be imported before.
        os.environ.update({name: value for name, value in OFFLINE.items() if name not in os.environ})
    plan = RunPlan.load(run.plan)
    if request.after is not None:
        _require_completed(run)
    model = _exported(run, plan, place, request)
    said = read_provenance(model)
    assert said is not None, "exports say what they are"
    from launcher.evaluate.harness import run_tasks, task_results, version

    task_files = place.tasks if request.task_files is not None else None
    if task_files is not None:
        # Task files name their data relative to where the harness runs.
        os.chdir(task_files)
    accelerated = plan.config.cluster.accelerator is not Accelerator.cpu
    answer = run_tasks(model, request, task_files, accelerated=accelerated)
    results = Results(
        run_id=plan.run_id,
        step=int(said["step"]),
        checkpoint=str(said["checkpoint"]),
        dtype=str(said["dtype"]),
        request=request,
        harness=version(),
        time=round(time.time(), 3),
        seconds=round(time.monotonic() - started, 1),
        tasks=task_results(answer),
    )
    _write_answer(place, answer)
    results.write(place)
    return results


def _require_completed(run: RunDir) -> None:
    last = next(iter(reversed(read_outcomes(run))), None)
    if last is None or last.state is not Ending.completed:
        ended = "it never began" if last is None else f"it {last.state.value}: {last.reason}"
        raise UserError(
            Problem(
                where=f"run {run.root.name}",
                message=f"these benchmarks were to follow its end, and it has not completed ({ended})",
                remedy="resume it, or name a checkpoint: `launcher eval RUN --step N --tasks …`",
            )
        )


def _exported(run: RunDir, plan: RunPlan, place: EvalDir, request: Request) -> Path:
    """A model directory of the checkpoint: the run's export if it is that, or a new one.

    The run's export is made here if there is none; one of another checkpoint, or of averaged weights, is left alone.
    """
    from launcher.checkpoint.export import choose, export

    manifest = choose(run, plan, request.step, _say)
    said = read_provenance(run.export)
    digest = checkpoint_digest(run.checkpoints, manifest.step)
    if said is not None and said.get("checkpoint") == digest and said.get("ema_decay") is None:
        return run.export
    return export(run, manifest.step, None, place.model if run.export.exists() else None, _say)


def _write_answer(place: EvalDir, answer: dict[str, object]) -> None:
    # The harness leaves functions and types among its numbers, and NaN.
    text = json.dumps(answer, default=str)
    publish_json(place.harness, json.loads(text, parse_constant=str))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
