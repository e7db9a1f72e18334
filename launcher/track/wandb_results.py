"""Benchmark results go to W&B as a run of their own, grouped with the one that trained: that one may still be followed.

`python -m launcher.track.wandb_results RUN_DIR FOLDER`, in a process of its own: results.json is the truth, and
whatever W&B does, the job does not fail of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from launcher.config.schema import WandbMode
from launcher.evaluate.request import Results
from launcher.plain import plain
from launcher.rundir import EvalDir, RunDir
from launcher.runplan import RunPlan

MOST_S = 120.0
"""How long W&B may take."""


def tell_wandb(run: RunDir, place: EvalDir) -> None:
    """Send results.json, if the run is tracked; what goes wrong is printed."""
    if RunPlan.load(run.plan).config.tracking.wandb is WandbMode.disabled:
        return
    command = [sys.executable, "-m", "launcher.track.wandb_results", str(run.root), str(place.root)]
    try:
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=MOST_S).returncode
        words = f"it ended with {ended}" if ended else ""
    except subprocess.TimeoutExpired:
        words = f"it took longer than {MOST_S:.0f} s"
    if words:
        print(f"W&B was not told of the results: {words}", file=sys.stderr, flush=True)


def numbers(results: Results) -> dict[str, float]:
    """`bench/TASK/MEASURE` and, where known, its `_stderr`."""
    found: dict[str, float] = {}
    for name, task in results.tasks.items():
        for measure, score in task.scores.items():
            key = f"bench/{name}/{measure}"
            values = {key: score.value, f"{key}_stderr": score.stderr}
            found |= {name: value for name, value in values.items() if value is not None}
    return found


def _send(run: RunDir, place: EvalDir) -> None:
    plan, results = RunPlan.load(run.plan), Results.read(place)
    assert results is not None, "results come first"
    opened = _open(run, plan, results)
    opened.define_metric("step")
    opened.define_metric("*", step_metric="step")
    opened.log({"step": results.step, **numbers(results)})
    opened.finish()


def _open(run: RunDir, plan: RunPlan, results: Results) -> Any:
    import wandb

    tracking = plan.config.tracking
    name = f"{plan.run_id}-{results.request.name}"
    for mode in dict.fromkeys((tracking.wandb.value, WandbMode.offline.value)):
        try:
            return wandb.init(
                id=name,
                name=name,
                group=plan.run_id,
                job_type="eval",
                project=tracking.project,
                entity=tracking.entity,
                tags=tracking.tags,
                config=plain(results.request),
                dir=str(run.root),
                mode=mode,
                settings=wandb.Settings(console="off", disable_git=True, save_code=False),
            )
        except Exception as error:  # W&B raises many kinds
            print(f"W&B {mode}: {type(error).__name__}: {error}", flush=True)
            if mode == WandbMode.offline.value:
                raise
    raise AssertionError("one mode or the other returns or raises")


if __name__ == "__main__":
    _send(RunDir(Path(sys.argv[1])), EvalDir(Path(sys.argv[2])))
