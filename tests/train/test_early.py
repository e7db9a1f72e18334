"""A run that does not get better stops, says which step was best, and does so after a resume as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.checkpoint.retain import HeldOut, best_step
from launcher.errors import UserError
from launcher.train.early import EarlyStop
from tests.workbench import Bench, held_out, losses


def watched(values: list[float], *, metric: str = "eval_loss", patience: int | None = 2) -> list[str | None]:
    """What is said after each value, at steps 10, 20, …"""
    early = EarlyStop(metric, patience, {})
    said = []
    for number, value in enumerate(values, start=1):
        early.note(10 * number, {metric: value})
        said.append(early.reason)
    return said


def test_it_stops_when_nothing_was_better_for_so_many_evaluations() -> None:
    said = watched([3.0, 2.0, 2.5, 2.0, 1.0])
    assert said[:3] == [None, None, None]
    assert said[3] is not None
    assert "best at step 20 (2)" in said[3]


def test_more_is_better_where_it_is() -> None:
    assert watched([0.5, 0.6, 0.7], metric="eval_accuracy") == [None] * 3
    last = watched([0.9, 0.6, 0.7], metric="eval_accuracy")[-1]
    assert last is not None
    assert "best at step 10 (0.9)" in last


def test_without_patience_nothing_stops() -> None:
    assert watched([1.0, 2.0, 3.0, 4.0], patience=None) == [None] * 4


def test_a_measure_that_is_none_of_the_objectives_names_those_that_are() -> None:
    with pytest.raises(UserError, match=r"eval_loss, eval_perplexity"):
        EarlyStop("eval_f1", 2, {}).note(10, {"eval_loss": 1.0, "eval_perplexity": 2.7})


def test_the_best_checkpoint_is_one_that_is_there(tmp_path: Path) -> None:
    lines = [
        {"step": step, "eval_loss": 1.0, "eval_accuracy": value} for step, value in ((5, 0.9), (10, 0.7), (15, 0.8))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    costs = HeldOut(tmp_path / "metrics.jsonl", "eval_accuracy").read()
    assert best_step([5, 10, 15], costs) == 5
    assert best_step([10, 15, 20], costs) == 15
    assert best_step([20], costs) is None


@pytest.mark.train
def test_a_run_that_learns_nothing_stops_early_and_exports_its_best(bench: Bench) -> None:
    overrides = ["train.max_steps=20", "train.eval_every=2", "train.patience=2", "checkpoint.keep_last=1"]
    # So small that no weight changes.
    idle = [*overrides, "optim.lr=1e-30", "optim.weight_decay=0"]
    straight = bench.train(*idle)
    assert max(losses(straight)) == 4
    told = json.loads(bench.run("status", straight.name, "--json").stdout)
    assert (told["state"], told["step"]) == ("COMPLETED", 4)
    assert "eval_loss was best at step 0" in told["reason"]
    assert "best by eval_loss" in bench.run("export", straight.name).stderr
    stopped = bench.train(*idle, "train.stop_at=3")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert max(losses(stopped)) == 4
    assert held_out(stopped) == held_out(straight)
