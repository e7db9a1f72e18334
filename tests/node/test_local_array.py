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
def test_members_old_and_new_run_one_after_another_and_one_that_was_cancelled_not_at_all(
    tmp_path: Path,
) -> None:
    bench = make_bench(tmp_path)
    words = ["-m", "optim.lr=tag(log,interval(1e-4,1e-2))", "train.max_steps=2", "data.eval=null"]
    words += ["--trials", "3", "--best", "loss"]
    told = json.loads(bench.run("submit", *bench.base, *words, "--json").stdout)
    names = [run["run_id"] for run in told["runs"]]
    assert [status(bench, name)["state"] for name in names[1:]] == ["QUEUED", "QUEUED"]
    bench.run("cancel", names[1])
    more = json.loads(bench.run("submit", "--more", "1", "--sweep", told["sweep_id"], "--json").stdout)
    names += [run["run_id"] for run in more["runs"]]
    assert status(bench, names[1])["state"] == "CANCELLED"
    deadline = time.monotonic() + 240
    while status(bench, names[3])["state"] in ("QUEUED", "RUNNING"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    listed = json.loads(bench.run("ls", "--sweep", "last", "--json").stdout)
    ends = [("COMPLETED", 2), ("CANCELLED", 0), ("COMPLETED", 2), ("COMPLETED", 2)]
    assert [(item["state"], item["step"]) for item in listed] == ends
    first, _, third, fourth = (tmp_path / "runs" / name for name in names)
    assert losses(first) != losses(third)
    begun, ended = (json.loads((first / "attempts/0001/outcome.json").read_text())[key] for key in ("started", "ended"))
    assert begun < ended <= json.loads((third / "attempts/0001/start.json").read_text())["time"]
    # One that was drawn later waits for all that were there.
    ended = json.loads((third / "attempts/0001/outcome.json").read_text())["ended"]
    assert ended <= json.loads((fourth / "attempts/0001/start.json").read_text())["time"]
    again = bench.run("submit", "--more", "2", "--sweep", "last", "--dry-run").stdout
    assert "Drawn from 3 measured, 0 under way, 1 that tell nothing" in again


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
