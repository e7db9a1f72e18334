"""What held-out losses are compared with is the same after a resume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from launcher.publish import append_record
from launcher.rundir import RunDir
from launcher.train.held_out import changes, gaps, losses_before_all, losses_of, untrained_all
from launcher.train.metrics import GAP_STEPS


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDir]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield RunDir(tmp_path)
    dist.destroy_process_group()


def test_losses_before_a_step_are_the_last_that_were_recorded(run: RunDir) -> None:
    assert losses_before_all(run, 0) == losses_before_all(run, 5) == []
    for attempt, steps in ((1, range(1, 301)), (2, range(251, 281))):
        for step in steps:
            append_record(run.metrics, {"step": step, "loss": step + attempt / 10, "attempt": attempt})
    assert losses_before_all(run, 3) == [1.1, 2.1, 3.1]
    found = losses_before_all(run, 260)
    assert len(found) == GAP_STEPS
    assert found[0] == 161.1
    assert found[-11:] == [250.1, *(step + 0.2 for step in range(251, 261))]


def test_the_untrained_losses_are_those_of_the_first_evaluation(run: RunDir) -> None:
    sets = ("eval_near", "eval_far")
    assert untrained_all(run, sets) == {}
    append_record(run.metrics, {"step": 0, "slices": {}, "attempt": 1})
    first = {"eval_loss": 2.0, "eval_near_loss": 3.0, "eval_far_loss": None, "eval_near_tokens": 3}
    append_record(run.metrics, {"step": 0, **first, "attempt": 1})
    append_record(run.metrics, {"step": 5, "eval_loss": 1.0, "eval_near_loss": 1.0, "attempt": 1})
    assert untrained_all(run, sets) == {"eval": 2.0, "eval_near": 3.0}


def test_a_later_evaluation_does_not_pass_for_the_first(run: RunDir) -> None:
    append_record(run.metrics, {"step": 5, "eval_loss": 1.0, "attempt": 1})
    assert untrained_all(run, ()) == {}


def test_change_and_gap_are_differences() -> None:
    measured = {"eval_loss": 2.5, "eval_near_loss": 1.0, "eval_near_perplexity": math.e, "eval_far_loss": math.nan}
    losses = losses_of(measured, ("eval_near", "eval_far"))
    assert losses == {"eval": 2.5, "eval_near": 1.0}
    assert changes(losses, {"eval": 2.0}) == {"eval_loss_change": 0.5}
    found = gaps(losses, [9.0, 1.0, 2.0], 2)
    assert found == {"eval_gap": pytest.approx(1.0, abs=1e-12), "eval_near_gap": pytest.approx(-0.5, abs=1e-12)}
    assert gaps(losses, [9.0], 2) == gaps(losses, [9.0], 0) == {}
