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
from pathlib import Path

from launcher.checkpoint.lineage import read_provenance
from launcher.config.cluster import Accelerator
from launcher.errors import Problem, UserError
from launcher.evaluate.request import Request, Results
from launcher.node.local_dir import use_local_dir
from launcher.node.stage import exported, require_completed, told, wait_for
from launcher.publish import publish_json
from launcher.rundir import EvalDir, RunDir, StageDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.track.wandb_results import tell_wandb

OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def main(folder: str, waits_for: str | None = None) -> None:
    """Entry of the job. `waits_for` is a process of this machine; on Slurm the queue has waited already."""
    os.umask(0o077)
    place = EvalDir(Path(folder))
    request = Request.read(place)
    run = RunDir(Path(request.run_dir))
    wait_for(waits_for)
    try:
        with told(run, place.failure, Event.eval_failed, name=request.name):
            use_local_dir()
            results = _evaluate(run, place, request)
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
        remedy = "resume it, or name a checkpoint: `launcher eval RUN --step N --tasks …`"
        require_completed(run, "these benchmarks were", remedy)
    step = request.step if request.export is None else _exported_before(run, StageDir(Path(request.export)))
    model = exported(run, step, place.model)
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


def _exported_before(run: RunDir, stage: StageDir) -> int:
    """Step of what the stage before this one has exported; UserError, with its reason, if that came to nothing."""
    if stage.results.is_file():
        return int(json.loads(stage.results.read_text(encoding="utf-8"))["step"])
    said = "it ended without a word"
    if stage.failure.is_file():
        said = json.loads(stage.failure.read_text(encoding="utf-8"))["reason"]
    raise UserError(
        Problem(
            where=f"run {run.root.name}",
            message=f"these benchmarks were to follow its export, which came to nothing ({said})",
            remedy=f"`launcher resume {run.root.name}` queues what has not been done",
        )
    )


def _write_answer(place: EvalDir, answer: dict[str, object]) -> None:
    # The harness leaves functions and types among its numbers, and NaN.
    text = json.dumps(answer, default=str)
    publish_json(place.harness, json.loads(text, parse_constant=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
