"""A sweep on a real Slurm: one array, and a member that is taken off its node comes back alone."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.publish import read_records
from tests.workbench import Bench, losses

pytestmark = [pytest.mark.slurm, pytest.mark.train]

WORDS = ["cluster=devslurm", "cluster.gpus_per_node=1", "data.eval=null", "checkpoint.every_steps=4"]
LONG = "train.max_steps=60"


def wait(condition: Callable[[], object], what: str, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.2)


def reached(run: Path) -> int:
    """The last step that was recorded; 0 before there is one."""
    return max(losses(run), default=0) if (run / "metrics.jsonl").exists() else 0


def slurm(bench: Bench, *command: str) -> str:
    environment = {**os.environ, **bench.environment}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def listed(bench: Bench, sweep: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bench.run("ls", "--sweep", sweep, "--json").stdout)
    return found


def test_a_member_that_is_requeued_finishes_and_another_is_cancelled_and_resumed(slurm_bench: Bench) -> None:
    told = json.loads(
        slurm_bench.run(
            "submit", *slurm_bench.base, *WORDS, LONG, "-m", "train.seed=1,2,3", "--at-once", "2", "--json"
        ).stdout
    )
    runs = [Path(run["run_dir"]) for run in told["runs"]]
    jobs = [run["job_id"] for run in told["runs"]]
    assert [job.partition("_")[2] for job in jobs] == ["0", "1", "2"]
    assert len({job.partition("_")[0] for job in jobs}) == 1
    wait(lambda: reached(runs[0]) >= 5, "five steps of the first member")
    assert reached(runs[2]) == 0, "only two may run at once"
    slurm_bench.run("cancel", runs[2].name)
    slurm(slurm_bench, "scontrol", "requeue", jobs[0])
    wait(
        lambda: (
            [item["state"] for item in listed(slurm_bench, told["sweep_id"])] == ["COMPLETED", "COMPLETED", "CANCELLED"]
        ),
        "the end of all",
    )
    first, second, third = listed(slurm_bench, told["sweep_id"])
    assert (first["attempts"], second["attempts"], third["attempts"]) == (2, 1, 0)
    assert first["job_id"] == jobs[0]
    assert list(losses(runs[0])) == list(range(1, 61))
    begun = [event["job_id"] for event in read_records(runs[0] / "events.jsonl") if event["event"] == "attempt_started"]
    assert begun == [jobs[0]] * 2
    assert (runs[0] / "submit" / "0001" / f"{jobs[0]}_0_log.out").is_file()
    slurm_bench.run("resume", runs[2].name, "train.max_steps=4", "--follow")
    assert list(losses(runs[2])) == list(range(1, 5))
