"""A teacher answers in a Slurm job as it does on this machine, where it is killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.objectives.rows import write_teacher
from tests.workbench import Bench, losses

pytestmark = [pytest.mark.slurm, pytest.mark.train]


def test_killed_here_and_straight_on_a_node_it_writes_the_same_file(slurm_bench: Bench, tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "teacher")
    (teacher / "generation_config.json").write_text(json.dumps({"eos_token_id": list(range(0, 300, 6))}))
    how = ["--teacher", str(teacher), "--temperature", "1", "--answers", "2", "--batch-size", "2"]
    asked = ["data", "generate", *slurm_bench.base, *how]
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    queued = json.loads(slurm_bench.run(*asked, "--out", str(here), "--json").stdout)
    journal = Path(queued["folder"]) / "answers.jsonl"
    deadline = time.monotonic() + 120
    while not journal.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(queued["job_id"].partition(".")[0]), signal.SIGKILL)
    kept = journal.read_bytes()
    assert not here.exists()
    told = json.loads(slurm_bench.run(*asked, "--out", str(here), "--follow", "--json").stdout)
    assert told["rows"] == 100
    assert told["answers"] + sum(told["left_out"].values()) == 200
    assert kept.count(b"\n") < 100
    slurm_bench.run(*asked, "cluster=devslurm", "--out", str(there), "--follow")
    assert here.read_bytes() == there.read_bytes()
    # It is data like any other.
    run = slurm_bench.train(f"data.train={here}", "data.train_on=last", "train.max_steps=2")
    assert list(losses(run)) == [1, 2]
