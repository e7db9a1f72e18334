"""A run goes on with another number of ranks, with no step by the user, and nobody could tell from its losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoint.test_universal import hostile
from tests.workbench import Bench, losses, records

pytestmark = pytest.mark.train

# Decay that shows at once if it reaches a norm.
COMMON = ["train.max_steps=5", "data.eval=null", "optim.weight_decay=5", "optim.lr=0.01", "checkpoint.keep_last=null"]


@pytest.fixture(scope="module")
def straight(bench: Bench) -> Path:
    """The undisturbed run, on four ranks. In fp32 the stages compute the same."""
    return bench.train(*COMMON, "zero.stage=3", "cluster.gpus_per_node=4")


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = (run / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def tokens(run: Path) -> dict[int, int]:
    """Trained tokens so far, by step: rows differ in length, so other rows would give other sums."""
    return {record["step"]: record["tokens"] for record in records(run) if "loss" in record}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_four_ranks_then_two_then_one_then_four(bench: Bench, started: Bench, straight: Path, stage: int) -> None:
    bench = started if stage == 2 else bench
    run = bench.train(*COMMON, f"zero.stage={stage}", "cluster.gpus_per_node=4", "train.stop_at=2")
    for ranks, stop_at in ((2, "3"), (1, "4"), (4, "null")):
        bench.run("resume", run.name, f"cluster.gpus_per_node={ranks}", f"train.stop_at={stop_at}", "--follow")
    started = [(event["step"], event["world_size"]) for event in events(run, "training_started")]
    assert started == [(0, 4), (2, 2), (3, 1), (4, 4)]
    assert losses(run) == pytest.approx(losses(straight), rel=1e-5)
    assert tokens(run) == tokens(straight)
    assert [record["step"] for record in records(run) if "loss" in record] == [1, 2, 3, 4, 5]
    copies = sorted(path.name for path in (run / "checkpoints").glob("universal-*"))
    assert copies == ["universal-00000002", "universal-00000003", "universal-00000004"]


def test_a_copy_that_carries_code_runs_none(bench: Bench, tmp_path: Path) -> None:
    run = bench.train(*COMMON, "zero.stage=3", "train.stop_at=1", "cluster.gpus_per_node=2")
    bench.run("resume", run.name, "cluster.gpus_per_node=1", "train.stop_at=2", "--follow")
    (run / "checkpoints" / "step-00000002" / "manifest.json").unlink()
    copy = run / "checkpoints" / "universal-00000001"
    with hostile(copy, "zero/lm_head.weight/fp32.pt", tmp_path / "ran"):
        result = bench.run("resume", run.name, "train.stop_at=2", "--follow", check=False)
    assert result.returncode == 5
    assert "more than tensors and plain values" in bench.rank_logs()
    assert not (tmp_path / "ran").exists()
