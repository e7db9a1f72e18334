"""Follows metrics.jsonl and hands its records to W&B. `python -m launcher.track.wandb_follower RUN_DIR`.

Ends when its standard input closes, which the death of the trainer does too.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

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


def follow(run: RunDir, plan: RunPlan) -> None:
    """Send records until training is over and nothing is left."""
    wandb_run = _open(run, plan)
    OPENED.set()
    position = _read_position(run)
    _write_position(run, position)
    over = False
    while not over:
        # The records written before the pipe closed are still to be read, so look at the pipe first.
        over = bool(select.select([sys.stdin], [], [], POLL_S)[0])
        position = _send(wandb_run, run, position)
    wandb_run.finish()


def _open(run: RunDir, plan: RunPlan) -> Any:
    """A W&B run whose id is the run's, online if wished and possible, else offline."""
    import wandb

    tracking = plan.config.tracking
    for mode in dict.fromkeys((tracking.wandb.value, WandbMode.offline.value)):
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


def _send(wandb_run: Any, run: RunDir, position: int) -> int:
    """Send the whole records behind byte `position`; returns the new position."""
    if not run.metrics.exists():
        return position
    with run.metrics.open("rb") as file:
        file.seek(position)
        data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    for line in whole.splitlines():
        wandb_run.log({key: value for key, value in json.loads(line).items() if value is not None})
    if whole:
        _write_position(run, position + len(whole))
    return position + len(whole)


def _write_position(run: RunDir, position: int) -> None:
    publish_json(run.wandb_position, {"bytes": position})


def _read_position(run: RunDir) -> int:
    """How much of metrics.jsonl earlier attempts have sent."""
    path = run.wandb_position
    return int(json.loads(path.read_text())["bytes"]) if path.is_file() else 0


def main(run_dir: str) -> None:
    """Entry of the process."""
    # Slurm signals every process of a step; this one ends with the trainer, which may still write records.
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with_the_trainer, daemon=True).start()
    run = RunDir(Path(run_dir))
    follow(run, RunPlan.load(run.plan))


def _leave_with_the_trainer() -> None:
    """End this process some time after the trainer, even while W&B waits for a server: metrics.jsonl keeps it all."""
    select.select([sys.stdin], [], [])
    time.sleep(OPEN_S)
    if OPENED.is_set():
        time.sleep(FINISH_S)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
