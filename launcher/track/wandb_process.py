"""W&B lives in a process of its own that follows metrics.jsonl: whatever it does, training does not wait for it.

`wandb.init` blocks for minutes when the server is unreachable and then raises. Here that costs nothing: the records
are in metrics.jsonl, and the follower falls back to offline mode.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from launcher.config.schema import WandbMode
from launcher.node.ranks import Ranks
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

FINISH_S = 30.0
"""How long the end of training waits for the last records to be sent."""


@contextlib.contextmanager
def wandb_process(plan: RunPlan, run: RunDir, ranks: Ranks) -> Iterator[None]:
    """Run the follower beside rank 0 while the block runs; a closed pipe tells it that training is over."""
    if ranks.rank != 0 or plan.config.tracking.wandb is WandbMode.disabled:
        yield
        return
    log = run.attempt(ranks.attempt).root / "wandb.log"
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        follower = subprocess.Popen(
            [sys.executable, "-m", "launcher.track.wandb_follower", str(run.root)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    assert follower.stdin is not None
    started = time.time()
    # Where the block raises, the pipe closes with this process; nothing is waited for.
    yield
    follower.stdin.close()
    # One that still waits for the server when training is over is not waited for.
    if followed_since(run, started):
        with contextlib.suppress(subprocess.TimeoutExpired):
            follower.wait(FINISH_S)


def followed_since(run: RunDir, started: float) -> bool:
    """Whether a follower has got through to W&B, or opened its offline file, since `started`."""
    return run.wandb_position.is_file() and run.wandb_position.stat().st_mtime >= started
