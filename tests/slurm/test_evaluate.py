"""Benchmarks on a real Slurm: a job that waits for the training, however often that comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.publish import read_records
from tests.evaluate.test_harness import TASK
from tests.slurm.test_runs import TWO_NODES, slurm, status, wait
from tests.workbench import Bench

pytestmark = [pytest.mark.slurm, pytest.mark.train]


def test_benchmarks_wait_for_a_run_that_is_requeued_meanwhile(slurm_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "numbers.yaml").write_text(TASK)
    (tmp_path / "own.py").write_text("def keep(docs):\n    return docs\n")
    rows = [{"question": f"row {index}", "answer": index % 3} for index in range(4)]
    (tmp_path / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [*TWO_NODES, "cluster.data_job.enabled=false", "train.max_steps=300", "checkpoint.every_steps=20"]
    submitted = json.loads(slurm_bench.run("submit", *slurm_bench.base, *words, "--json").stdout)
    run = Path(submitted["run_dir"])
    asked = json.loads(slurm_bench.run("eval", run.name, "--tasks", str(tmp_path / "numbers.yaml"), "--json").stdout)
    assert asked["after"] == submitted["job_id"]
    shown = slurm(slurm_bench, "scontrol", "show", "job", asked["job_id"])
    assert f"Dependency=afterany:{submitted['job_id']}" in shown
    assert "Requeue=0" in shown
    wait(lambda: bool(list((run / "checkpoints").glob("step-*/manifest.json"))), "the first checkpoint")
    slurm(slurm_bench, "scontrol", "requeue", submitted["job_id"])
    results, failure = (Path(asked["folder"]) / name for name in ("results.json", "failure.json"))
    wait(lambda: read_records(run / "events.jsonl")[-1]["event"] in ("evaluated", "eval_failed"), "the benchmarks")
    assert not failure.exists(), failure.read_text()
    assert json.loads(results.read_text())["step"] == 300
    assert status(slurm_bench, run)["attempts"] == 2
