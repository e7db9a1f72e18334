"""Follows metrics.jsonl and samples.jsonl, and hands their records to W&B.

`python -m launcher.track.wandb_follower RUN_DIR [MODE]`; MODE is the run's own unless it is given.

Ends when its standard input closes, which the death of the trainer does too.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, TypeAlias

from launcher.config.schema import WandbMode
from launcher.plain import plain
from launcher.publish import publish_json
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

POLL_S = 2.0
OPEN_S = 3.0
"""How long W&B may still take to open once training is over."""
OPENED = threading.Event()
FINISH_S = 30.0
"""How long the last records may take once training is over."""


def follow(run: RunDir, plan: RunPlan, mode: WandbMode) -> None:
    """Send records until training is over and nothing is left."""
    wandb_run = _open(run, plan, mode)
    OPENED.set()
    position = read_position(run)
    publish_json(run.wandb_position, position)
    over = False
    while not over:
        # The records written before the pipe closed are still to be read, so look at the pipe first.
        over = bool(select.select([sys.stdin], [], [], POLL_S)[0])
        position = _send(wandb_run, run, position)
        position = _send_samples(wandb_run, run, position)
    wandb_run.finish()


def _open(run: RunDir, plan: RunPlan, wished: WandbMode) -> Any:
    """A W&B run whose id is the run's, online if wished and possible, else offline."""
    import wandb

    tracking = plan.config.tracking
    for mode in dict.fromkeys((wished.value, WandbMode.offline.value)):
        try:
            opened = wandb.init(
                id=plan.run_id,
                name=plan.run_id,
                project=tracking.project,
                entity=tracking.entity,
                tags=tracking.tags,
                config=plain(plan.config),
                dir=str(run.root),
                mode=mode,
                resume="allow",
                settings=wandb.Settings(console="off", disable_git=True, save_code=False),
            )
        except Exception as error:  # W&B raises many kinds, and none of them may end this process
            print(f"W&B {mode}: {type(error).__name__}: {error}", flush=True)
            if mode == WandbMode.offline.value:
                raise
            continue
        # A step that is replayed after a resume would be dropped if it were W&B's own step.
        opened.define_metric("step")
        opened.define_metric("*", step_metric="step")
        return opened
    raise AssertionError("one mode or the other returns or raises")


Position: TypeAlias = dict[str, int]
"""How many bytes of each file are sent: `bytes` of metrics.jsonl, `samples` of samples.jsonl."""


def _send(wandb_run: Any, run: RunDir, position: Position) -> Position:
    """Send the whole metrics behind the position; returns the new position."""
    records, size = _new(run.metrics, position["bytes"])
    for record in records:
        wandb_run.log({key: value for key, value in record.items() if value is not None})
    return _sent(run, position, "bytes", size)


def _send_samples(wandb_run: Any, run: RunDir, position: Position) -> Position:
    """The same of answers: one table for each step."""
    import wandb

    records, size = _new(run.samples, position["samples"])
    for step, answers in itertools.groupby(records, key=lambda record: record["step"]):
        rows = [[step, record["prompt"], record["answer"]] for record in answers]
        wandb_run.log({"step": step, "samples": wandb.Table(columns=["step", "prompt", "answer"], data=rows)})
    return _sent(run, position, "samples", size)


def _new(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """The whole records of a file behind byte `start`, and how many bytes they are."""
    if not path.exists():
        return [], 0
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], len(whole)


def _sent(run: RunDir, position: Position, name: str, size: int) -> Position:
    """The position behind so many bytes more of a file, which is noted."""
    if size:
        position = {**position, name: position[name] + size}
        publish_json(run.wandb_position, position)
    return position


def read_position(run: RunDir) -> Position:
    """How much earlier attempts have sent."""
    path = run.wandb_position
    return {"bytes": 0, "samples": 0} | (json.loads(path.read_text()) if path.is_file() else {})


def main(run_dir: str, mode: str | None = None) -> None:
    """Entry of the process."""
    # Slurm signals every process of a step; this one ends with the trainer, which may still write records.
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_the_trainer, daemon=True).start()
    run = RunDir(Path(run_dir))
    plan = RunPlan.load(run.plan)
    follow(run, plan, plan.config.tracking.wandb if mode is None else WandbMode(mode))


def _leave_with_the_trainer() -> None:
    """End this process some time after the trainer, even while W&B waits for a server: metrics.jsonl keeps it all."""
    select.select([sys.stdin], [], [])
    time.sleep(OPEN_S)
    if OPENED.is_set():
        time.sleep(FINISH_S)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
