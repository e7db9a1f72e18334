"""Uploads what W&B holds of a run only in offline files: it ran without the network, or lost it.

The library's own `wandb sync` does the uploading, in a process of its own. All segments of a run go to it in one call:
it appends them to one another in the order in which they were written.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from launcher.config.schema import WandbMode
from launcher.errors import DoesNotHoldError, Problem
from launcher.rundir import RunDir
from launcher.track.wandb_follower import read_position

HAND_OVER_S = 600.0
"""How long records may take that no earlier process has handed to W&B."""
REACH_S = 10.0
"""How long the server may take to answer."""
POLL_S = 0.2


def segments(run: RunDir) -> list[Path]:
    """Offline files of the run that are not uploaded yet, oldest first: the run's own, and those of its benchmarks."""
    folders = sorted(run.wandb.glob("offline-run-*"))
    return [folder for folder in folders if not list(folder.glob("*.wandb.synced"))]


def hand_over(run: RunDir) -> None:
    """Have W&B take the records that a killed process left: metrics.jsonl is the truth."""
    if not _left_over(run):
        return
    # Into a segment of its own, which then goes the way of the others.
    command = [sys.executable, "-m", "launcher.track.wandb_follower", str(run.root), WandbMode.offline.value]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet) as follower:
        assert follower.stdin is not None
        ends = time.monotonic() + HAND_OVER_S
        while _left_over(run) and follower.poll() is None and time.monotonic() < ends:
            time.sleep(POLL_S)
        # It takes this for the end of training.
        follower.stdin.close()


def upload(found: list[Path]) -> None:
    """Upload these segments; DoesNotHoldError where W&B cannot be reached or does not take one of them."""
    _require_server()
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *map(str, found)]
    told = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    left = [folder for folder in found if not list(folder.glob("*.wandb.synced"))]
    if told.returncode == 0 and not left:
        return
    lines = (told.stderr + told.stdout).strip().splitlines()
    errors = [line for line in lines if "error" in line.lower() and "logs at" not in line] or lines[-1:]
    raise DoesNotHoldError(
        Problem(
            where="W&B",
            message=f"{len(left)} of {len(found)} parts were not uploaded: {'; '.join(errors) or 'no word'}",
            remedy="log in with `wandb login`, or set WANDB_API_KEY; then run this again: what is there is kept",
        )
    )


def _left_over(run: RunDir) -> bool:
    position = read_position(run)
    files = {"bytes": run.metrics, "samples": run.samples}
    return any(path.is_file() and path.stat().st_size > position[name] for name, path in files.items())


def _require_server() -> None:
    """`wandb sync` asks for ever where nobody answers."""
    asked = [sys.executable, "-c", "import wandb; print(wandb.setup().settings.base_url)"]
    told = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        words = (told.stderr.strip().splitlines() or ["no word"])[-1]
        raise DoesNotHoldError(Problem(where="W&B", message=f"the library does not start: {words}"))
    server = told.stdout.split()[-1]
    try:
        urllib.request.urlopen(server, timeout=REACH_S).close()
    except urllib.error.HTTPError:
        # Somebody answers.
        return
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise DoesNotHoldError(
            Problem(
                where="W&B",
                message=f"{server} cannot be reached from here ({reason}); nothing was uploaded",
                remedy="run this where the network is, or set WANDB_BASE_URL (and https_proxy) to what reaches it",
            )
        ) from error
