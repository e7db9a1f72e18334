"""W&B gets every record once, and its absence costs a run nothing."""

from __future__ import annotations

import json
import time

import pytest

from launcher.rundir import RunDir
from launcher.track.wandb_process import followed_since
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


def test_a_resumed_run_sends_only_what_was_not_sent_before(bench: Bench) -> None:
    run = bench.train("tracking=offline", "train.max_steps=4", "train.stop_at=2")
    first = json.loads((run / "wandb" / "position.json").read_text())["bytes"]
    bench.run("resume", run.name, "train.stop_at=null", "--follow")
    assert json.loads((run / "wandb" / "position.json").read_text())["bytes"] > first
    assert len(list((run / "wandb").glob(f"offline-run-*{run.name}"))) == 2


def test_an_unreachable_server_neither_delays_nor_kills_training(bench: Bench) -> None:
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    bench = Bench(root=bench.root, environment={**bench.environment, **nowhere})
    run = bench.train("tracking=online", "train.max_steps=4")
    assert list(losses(run)) == [1, 2, 3, 4]
    assert len(records(run)) == 6
    # The run is over while W&B still waits for an answer.
    assert not (run / "wandb" / "position.json").exists()
