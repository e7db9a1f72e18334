"""What is on disk is trusted only as far as the manifest vouches for it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from tests.checkpoint.folders import vouch
from tests.checkpoint.test_export import flip
from tests.workbench import Bench, losses

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def straight(bench: Bench) -> Path:
    return bench.train("train.max_steps=6", "data.eval=null")


@pytest.fixture
def stopped(bench: Bench) -> Path:
    return bench.train(
        "train.max_steps=6", "train.stop_at=4", "checkpoint.every_steps=2", "data.eval=null", "checkpoint.keep_last=2"
    )


def shard(run: Path, step: int) -> Path:
    folder = run / "checkpoints" / f"step-{step:08d}"
    return folder / json.loads((folder / "manifest.json").read_text())["shards"][-1]["name"]


def test_damaged_checkpoints_are_passed_over_and_named(bench: Bench, straight: Path) -> None:
    run = bench.train(
        "train.max_steps=6",
        "train.stop_at=5",
        "checkpoint.every_steps=1",
        "checkpoint.keep_last=null",
        "data.eval=null",
    )
    flip(shard(run, 5))
    shard(run, 4).write_bytes(shard(run, 4).read_bytes()[:-1])
    shard(run, 3).unlink()
    (shard(run, 2).parent / "manifest.json").unlink()
    bench.run("resume", run.name, "train.stop_at=null", "--follow")
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    passed = {event["step"]: event["reason"] for event in events if event["event"] == "passed_over"}
    assert list(passed) == [5, 4, 3]
    for step, reason in ((5, "has changed"), (4, "bytes instead of"), (3, "cannot be read")):
        assert reason in passed[step]
    assert [event["step"] for event in events if event["event"] == "training_started"] == [0, 1]
    assert losses(run) == losses(straight)


def test_a_checkpoint_that_carries_code_runs_none(bench: Bench, stopped: Path, tmp_path: Path) -> None:
    proof = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (proof,))

    assert pickle.dumps(Hostile())
    victim = shard(stopped, 4)
    torch.save({"payload": Hostile()}, victim)
    # Even with a manifest that vouches for it.
    vouch(victim.parent, victim.name)
    result = bench.run("resume", stopped.name, "train.stop_at=null", "--follow", check=False)
    assert result.returncode == 5
    assert not proof.exists()
    outcome = json.loads((stopped / "attempts" / "0002" / "outcome.json").read_text())
    assert (outcome["failure"], outcome["action"]) == ("user_error", "stop")
    assert "checkpoint at step 4" in outcome["reason"]


def test_an_earlier_step_can_be_taken_up_and_later_ones_are_set_aside(
    bench: Bench, straight: Path, stopped: Path
) -> None:
    bench.run("resume", stopped.name, "--step", "2", "train.stop_at=3", "--follow")
    assert (
        sorted(folder.name for folder in (stopped / "checkpoints").glob("step-*/manifest.json"))
        == ["manifest.json"] * 2
    )
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)


@pytest.mark.parametrize(
    "override",
    ["zero.stage=2", "train.seed=1", "train.global_batch_size=16", "data.seq_len=32"],
)
def test_changes_that_would_make_another_run_are_refused(bench: Bench, straight: Path, override: str) -> None:
    result = bench.run("resume", straight.name, "train.max_steps=8", override, check=False)
    assert result.returncode == 2
    assert "→" in result.stderr
    assert "a resume cannot change this" in result.stderr
    assert max(losses(straight)) == 6
