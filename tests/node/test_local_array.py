"""Runs of a sweep on this machine take turns, and each is told of as the run that it is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.process_id import process_id
from launcher.rundir import ArrayDir
from tests.workbench import Bench, losses, make_bench


def status(bench: Bench, run: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(bench.run("status", run, "--json").stdout)
    return document


@pytest.mark.train
def test_members_run_one_after_another_and_one_that_was_cancelled_not_at_all(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    words = ["-m", "train.seed=1,2,3", "train.max_steps=2", "data.eval=null"]
    told = json.loads(bench.run("submit", *bench.base, *words, "--json").stdout)
    names = [run["run_id"] for run in told["runs"]]
    assert [status(bench, name)["state"] for name in names[1:]] == ["QUEUED", "QUEUED"]
    bench.run("cancel", names[1])
    assert status(bench, names[1])["state"] == "CANCELLED"
    deadline = time.monotonic() + 240
    while status(bench, names[2])["state"] in ("QUEUED", "RUNNING"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    listed = json.loads(bench.run("ls", "--sweep", "last", "--json").stdout)
    assert [(item["state"], item["step"]) for item in listed] == [("COMPLETED", 2), ("CANCELLED", 0), ("COMPLETED", 2)]
    first, _, third = (tmp_path / "runs" / name for name in names)
    assert losses(first) != losses(third)
    begun, ended = (json.loads((first / "attempts/0001/outcome.json").read_text())[key] for key in ("started", "ended"))
    assert begun < ended <= json.loads((third / "attempts/0001/start.json").read_text())["time"]


def test_an_array_waits_for_the_processes_that_it_follows(tmp_path: Path) -> None:
    array = ArrayDir(tmp_path)
    array.tasks.mkdir()
    before = subprocess.Popen(["sleep", "60"])
    name = process_id(before.pid)
    assert name is not None
    command = [sys.executable, "-m", "launcher.node.local_array", str(tmp_path), "1", name]
    after = subprocess.Popen(command)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            after.wait(timeout=2)
        before.kill()
        before.wait()
        # Nobody's tasks: it ends as soon as it may begin.
        assert after.wait(timeout=30) == 0
    finally:
        before.kill()
        after.kill()
