"""W&B gets every record once, and its absence costs a run nothing."""

from __future__ import annotations

import json
import time

import pytest

from launcher.rundir import RunDir
from launcher.track.wandb_process import followed_since
from tests.track.wandb_server import Server, wandb_server
from tests.workbench import Bench, losses, records

pytestmark = pytest.mark.train


def test_offline_records_carry_the_runs_id_and_every_metric(bench: Bench) -> None:
    run = bench.train("tracking=offline", "train.max_steps=4")
    segments = [path.name for path in (run / "wandb").glob("offline-run-*")]
    assert len(segments) == 1
    assert segments[0].endswith(run.name)
    sent = json.loads((run / "wandb" / "position.json").read_text())["bytes"]
    assert sent == (run / "metrics.jsonl").stat().st_size
    assert followed_since(RunDir(run), 0.0)
    assert not followed_since(RunDir(run), time.time() + 1)


def to(bench: Bench, server: Server | None = None) -> Bench:
    """The same, with a W&B server; without one, nobody answers."""
    address = "http://127.0.0.1:9" if server is None else server.address
    keys = {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "false"}
    return Bench(root=bench.root, environment={**bench.environment, **keys}, warm=bench.warm)


def test_a_resumed_run_sends_only_what_was_not_sent_before_and_is_uploaded_as_one(bench: Bench) -> None:
    run = bench.train("tracking=offline", "train.max_steps=4", "train.stop_at=2")
    first = json.loads((run / "wandb" / "position.json").read_text())["bytes"]
    bench.run("resume", run.name, "train.stop_at=null", "--follow")
    assert json.loads((run / "wandb" / "position.json").read_text())["bytes"] > first
    assert len(list((run / "wandb").glob(f"offline-run-*{run.name}"))) == 2
    nowhere = to(bench).run("sync", run.name, check=False)
    assert nowhere.returncode == 5
    assert "cannot be reached" in nowhere.stderr
    with wandb_server() as server:
        uploaded = json.loads(to(bench, server).run("sync", run.name, "--json").stdout)
        assert len(uploaded["runs"][0]["uploaded"]) == 2
        assert server.values("loss") == losses(run)
        assert len(server.history) == len(records(run))
        again = to(bench, server).run("sync", run.name).stdout
        assert "everything is uploaded already" in again


def test_an_unreachable_server_neither_delays_nor_kills_training(bench: Bench) -> None:
    run = to(bench).train("tracking=online", "train.max_steps=4")
    assert list(losses(run)) == [1, 2, 3, 4]
    assert len(records(run)) == 6
    # The run is over while W&B still waits for an answer.
    assert not (run / "wandb" / "position.json").exists()
    # What it never took is in metrics.jsonl.
    with wandb_server() as server:
        to(bench, server).run("sync", run.name)
        assert server.values("loss") == losses(run)
