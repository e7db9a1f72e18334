"""A chain on a real Slurm: data, training on two nodes, export and benchmarks, each in its own shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launcher.publish import read_records
from tests.evaluate.test_harness import TASK
from tests.slurm.test_runs import TWO_NODES, slurm, wait
from tests.workbench import Bench

pytestmark = [pytest.mark.slurm, pytest.mark.train]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Overrides and options of a chain with a task of its own and data that nobody has prepared."""
    (tmp_path / "numbers.yaml").write_text(TASK)
    (tmp_path / "own.py").write_text("def keep(docs):\n    return docs\n")
    rows = [{"question": f"row {index}", "answer": index % 3} for index in range(4)]
    (tmp_path / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    then = ["--then", "eval", "--tasks", str(tmp_path / "numbers.yaml")]
    return [*TWO_NODES, f"data.cache_dir={tmp_path / 'data'}", "train.max_steps=2", *then]


def told(bench: Bench) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What `status` says of the newest run, and of its stages by name."""
    found = json.loads(bench.run("status", "last", "--json").stdout)
    return found, {stage["name"]: stage for stage in found["stages"]}


def test_a_chain_is_one_run_and_each_stage_has_its_own_shape(slurm_bench: Bench, words: list[str]) -> None:
    slurm_bench.run("submit", *slurm_bench.base, *words, "--follow")
    _, stages = told(slurm_bench)
    assert list(stages) == ["prepare", "train", "export", "eval"]
    assert {stage["state"] for stage in stages.values()} == {"COMPLETED"}
    jobs = {name: slurm(slurm_bench, "scontrol", "show", "job", stage["job_id"]) for name, stage in stages.items()}
    assert [name for name, shown in jobs.items() if "gres" in shown] == ["train", "eval"]
    assert [name for name, shown in jobs.items() if "NumNodes=2" in shown] == ["train"]
    run = slurm_bench.last()
    kinds = [event["event"] for event in read_records(run / "events.jsonl")]
    order = [kinds.index(kind) for kind in ("data_prepared", "attempt_ended", "exported", "evaluated")]
    assert order == sorted(order)
    assert kinds.count("exported") == 1
    assert json.loads((run / "evals" / "numbers" / "results.json").read_text())["step"] == 2
    rows = [line for line in slurm_bench.run("ls").stdout.splitlines() if run.name in line]
    assert [row.split()[-2:] for row in rows] == [["eval", "COMPLETED"]]


def test_a_chain_whose_data_cannot_be_prepared_leaves_nothing_pending(slurm_bench: Bench, words: list[str]) -> None:
    # No row is that short, which nobody sees who does not tokenise.
    result = slurm_bench.run("submit", *slurm_bench.base, *words, "data.seq_len=2", "--follow", check=False)
    assert result.returncode == 5, result.stderr
    assert "its data could not be prepared" in result.stderr
    run = slurm_bench.last()
    wait(lambda: run.name not in slurm(slurm_bench, "squeue", "--format=%j"), "an empty queue", 60)
    found, stages = told(slurm_bench)
    assert found["state"] == "FAILED"
    states = {name: stage["state"] for name, stage in stages.items()}
    assert states == {"prepare": "FAILED", "train": "FAILED", "export": "SKIPPED", "eval": "SKIPPED"}
    assert "its data could not be prepared" in stages["export"]["reason"]
    assert stages["eval"]["reason"] == "export is SKIPPED"
    assert Path(stages["prepare"]["log"]).is_file()
    why = slurm_bench.run("why", run.name).stdout
    assert f"its log is {stages['prepare']['log']}" in why
