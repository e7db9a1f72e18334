"""What a resume may change, decided before anything is queued."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config.search import search_path
from launcher.errors import UserError
from launcher.plan.build import Request, plan_request
from launcher.runplan import RunPlan
from launcher.runs.resume import refuse_changes, replan


@pytest.fixture
def old(demo: Path, work: Path) -> RunPlan:
    """A run on four ranks."""
    overrides = ("cluster.gpus_per_node=4", "train.global_batch_size=8", "train.micro_batch_size=2")
    return plan_request(Request(recipe="demo", overrides=overrides, config_dir=None, work_dir=work))


def resumed(old: RunPlan, *overrides: str) -> RunPlan:
    work = Path.cwd()
    new = replan(old, overrides, search_path(None, work), work)
    refuse_changes(old, new)
    return new


@pytest.mark.parametrize(("ranks", "accumulation"), [(2, 2), (1, 4)])
def test_fewer_ranks_take_the_same_global_batch_in_more_parts(old: RunPlan, ranks: int, accumulation: int) -> None:
    new = resumed(old, f"cluster.gpus_per_node={ranks}")
    assert new.batch.global_batch_size == old.batch.global_batch_size
    assert (new.batch.micro_batch_size, new.batch.accumulation) == (2, accumulation)
    assert new.deepspeed["gradient_accumulation_steps"] == accumulation


@pytest.mark.parametrize("ranks", [3, 8])
def test_ranks_that_do_not_fit_the_batch_are_refused_with_what_a_resume_can_change(old: RunPlan, ranks: int) -> None:
    with pytest.raises(UserError) as caught:
        resumed(old, f"cluster.gpus_per_node={ranks}")
    (problem,) = caught.value.problems
    assert "a resume keeps it" in problem.remedy
    assert "train.micro_batch_size=auto" in problem.remedy
    assert "write train.global_batch_size" not in str(problem)
    if ranks == 8:
        new = resumed(old, f"cluster.gpus_per_node={ranks}", "train.micro_batch_size=auto")
        assert (new.batch.micro_batch_size, new.batch.accumulation) == (1, 1)


def test_another_zero_stage_is_refused_with_the_way_round(old: RunPlan) -> None:
    stage = 3 - old.config.zero.stage
    with pytest.raises(UserError) as caught:
        resumed(old, f"zero.stage={stage}")
    (problem,) = caught.value.problems
    assert problem.where == "zero.stage"
    assert f"launcher export {old.run_id}" in problem.remedy
    assert f"launcher submit demo model.path={old.run_dir}/export zero.stage={stage}" in problem.remedy
