"""What a real Slurm does to a run: preemption, time limits, dead nodes, cancelling. Each time it comes back."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.publish import read_records
from tests.workbench import Bench, held_out, losses, records

pytestmark = [pytest.mark.slurm, pytest.mark.train]

STEPS = 240
OVERRIDES = [
    "cluster=devslurm",
    "cluster.nodes=2",
    "cluster.gpus_per_node=1",
    f"train.max_steps={STEPS}",
    "train.eval_every=80",
    "checkpoint.every_steps=40",
    "watchdog.step_s=5",
]


@pytest.fixture(scope="module")
def straight(slurm_bench: Bench) -> Path:
    """The run that nothing happened to."""
    return slurm_bench.train(*OVERRIDES)


def slurm(bench: Bench, *command: str) -> str:
    environment = {**os.environ, **bench.environment}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def wait(condition: Callable[[], object], what: str, timeout_s: float = 300) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.1)


def status(bench: Bench, run: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(bench.run("status", run.name, "--json").stdout)
    return document


def submitted(bench: Bench, *overrides: str, fault: dict[str, Any] | None = None) -> tuple[Path, str]:
    """Run directory and job of a new run."""
    if fault is not None:
        folder = bench.root / "faults" / str(time.time_ns())
        folder.mkdir(parents=True)
        (folder / "fault.json").write_text(json.dumps({"step": None, "rank": None, **fault}))
        bench = replace(bench, environment={**bench.environment, "LAUNCHER_FAULTS": str(folder)})
    told = json.loads(bench.run("submit", *bench.base, *OVERRIDES, *overrides, "--json").stdout)
    return Path(told["run_dir"]), str(told["job_id"])


def reached(run: Path, step: int) -> Callable[[], bool]:
    return lambda: (run / "metrics.jsonl").exists() and max(losses(run), default=0) >= step


def endings(run: Path) -> list[tuple[str | None, str]]:
    """Why and with which consequence each attempt ended."""
    events = read_records(run / "events.jsonl")
    return [(event["failure"], event["action"]) for event in events if event["event"] == "attempt_ended"]


def ends_like(bench: Bench, run: Path, job: str, straight: Path, *, lost: int) -> dict[str, Any]:
    """Wait for the end, which must be that of the undisturbed run; the job must have come back exactly once."""
    wait(lambda: status(bench, run)["state"] in ("COMPLETED", "FAILED", "CANCELLED"), "the end")
    found = status(bench, run)
    assert found["state"] == "COMPLETED", bench.rank_logs()
    assert (losses(run), held_out(run)) == (losses(straight), held_out(straight))
    assert found["attempts"] == 2
    assert found["lost_steps"] <= lost
    assert "Restarts=1 " in slurm(bench, "scontrol", "show", "job", job)
    return found


def test_a_preempted_run_saves_comes_back_once_and_loses_nothing(slurm_bench: Bench, straight: Path) -> None:
    run, job = submitted(slurm_bench)
    wait(reached(run, 50), "step 50")
    slurm(
        slurm_bench,
        *("sbatch", "--partition=high", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 3"),
    )
    ends_like(slurm_bench, run, job, straight, lost=0)
    assert endings(run) == [("preempted", "requeue"), (None, "stop")]


def test_a_run_near_its_time_limit_saves_comes_back_once_and_loses_nothing(slurm_bench: Bench, straight: Path) -> None:
    pause = {"point": "step", "step": 60, "rank": 1, "action": "pause"}
    run, job = submitted(slurm_bench, "cluster.signal_lead_s=100", "watchdog.step_s=120", fault=pause)
    wait(reached(run, 59), "step 59")
    slurm(slurm_bench, "scontrol", "update", f"JobId={job}", "TimeLimit=2")
    wait(lambda: len(endings(run)) == 1, "the end of the first attempt")
    slurm(slurm_bench, "scontrol", "update", f"JobId={job}", "TimeLimit=30")
    ends_like(slurm_bench, run, job, straight, lost=0)
    assert endings(run) == [("time_limit", "requeue"), (None, "stop")]


@pytest.mark.parametrize(
    "fault",
    [
        {"point": "evaluate", "step": 80, "rank": 1, "action": "term"},
        {"point": "save.writing", "step": 40, "rank": 0, "action": "term"},
        {"point": "loaded", "rank": 0, "action": "usr2"},
    ],
)
def test_a_signal_during_evaluation_save_or_start_is_heard(
    slurm_bench: Bench, straight: Path, fault: dict[str, Any]
) -> None:
    run, job = submitted(slurm_bench, fault=fault)
    ends_like(slurm_bench, run, job, straight, lost=0)


def test_a_dead_slurmd_is_named_and_the_run_goes_on_elsewhere(
    slurm_bench: Bench, kill_slurmd: Callable[[str], None]
) -> None:
    longer = ["train.max_steps=3000", "train.eval_every=null", "checkpoint.every_steps=40"]
    run, _ = submitted(slurm_bench, *longer)
    wait(reached(run, 20), "step 20")
    kill_slurmd("n2")
    # Slurm takes a quarter of a minute to believe it.
    wait(lambda: len(endings(run)) == 1 and 2 in by_attempt(run), "a step of the second attempt")
    assert endings(run)[0][0] == "node_failure"
    found = status(slurm_bench, run)
    assert found["lost_steps"] <= 40
    story = slurm_bench.run("why", run.name).stdout
    assert "node failure" in story
    assert "n2" in story
    slurm_bench.run("cancel", run.name)
    wait(lambda: status(slurm_bench, run)["state"] == "CANCELLED", "the end")
    first, second = by_attempt(run)[1], by_attempt(run)[2]
    assert min(second) <= max(first) + 1
    assert all(first[step] == loss for step, loss in second.items() if step in first)


def by_attempt(run: Path) -> dict[int, dict[int, float]]:
    """Losses by step of each attempt."""
    found: dict[int, dict[int, float]] = {}
    for record in records(run):
        if "loss" in record:
            found.setdefault(record["attempt"], {})[record["step"]] = record["loss"]
    return found


def test_a_cancelled_run_stays_cancelled_with_a_checkpoint_and_resumes(slurm_bench: Bench, straight: Path) -> None:
    run, job = submitted(slurm_bench)
    wait(reached(run, 50), "step 50")
    slurm_bench.run("cancel", run.name)
    wait(lambda: status(slurm_bench, run)["state"] == "CANCELLED", "the end")
    found = status(slurm_bench, run)
    assert found["last_checkpoint"] == found["step"] == max(losses(run))
    assert endings(run) == [("preempted", "stop")]
    wait(lambda: "Restarts=0 " in slurm(slurm_bench, "scontrol", "show", "job", job), "no requeue", 5)
    slurm_bench.run("resume", run.name, "--follow")
    assert (losses(run), held_out(run)) == (losses(straight), held_out(straight))
