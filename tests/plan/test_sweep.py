"""The plans of a sweep: those that its members would have alone, or what is wrong with which of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.errors import NotFoundError, UserError
from launcher.plan.build import Request, plan_request
from launcher.plan.sweep import plan_sweep, ranges
from launcher.runplan import RunPlan


def request(work: Path, *words: str, recipe: str = "demo") -> Request:
    return Request(recipe=recipe, overrides=words, config_dir=None, work_dir=work)


def nameless(plan: RunPlan) -> str:
    return json.dumps(plan.to_json()).replace(plan.run_id, "RUN")


@pytest.mark.parametrize(
    "words",
    [
        ("optim.lr=1e-4,2e-4", "train.seed=range(0,3)"),
        ("cluster=devslurm,local", "zero=zero1,zero3", "train.global_batch_size=8,16"),
        ("data.seq_len=64,128", "cluster=devslurm", "cluster.nodes=1,2"),
        ("objective=sft,pretrain", "checkpoint.every_steps=3,4", "cluster.environment.NOTE=a,b"),
    ],
    ids=" ".join,
)
def test_each_member_is_planned_as_it_would_be_alone(demo: Path, work: Path, words: tuple[str, ...]) -> None:
    sweep = plan_sweep(request(work, *words))
    assert len(sweep.plans) == len(sweep.sweep.members)
    for index, plan in enumerate(sweep.plans):
        assert nameless(plan) == nameless(plan_request(request(work, *sweep.sweep.overrides(index))))


def test_members_are_named_after_their_sweep_and_sort_as_they_come(demo: Path, work: Path) -> None:
    sweep = plan_sweep(request(work, "train.seed=range(0,11)"))
    names = [plan.run_id for plan in sweep.plans]
    assert names == sorted(names)
    assert (names[0], names[10]) == (f"{sweep.sweep_id}-00", f"{sweep.sweep_id}-10")


def test_every_broken_member_is_named_with_what_breaks_it(demo: Path, work: Path) -> None:
    with pytest.raises(UserError) as caught:
        plan_sweep(request(work, "optim.lr=1e-4,fast,1e-5", "train.seed=0,-1,1"))
    said = str(caught.value)
    assert "optim.lr: 'fast' is not a number [members 3-5 (optim.lr=fast)]" in said
    assert "train.seed: -1 is out of range [members 1,7 (train.seed=-1)]" in said
    assert "5 of 9 members cannot run" in said
    assert list(work.iterdir()) == []


def test_what_breaks_all_members_is_said_once(demo: Path, work: Path) -> None:
    with pytest.raises(UserError) as caught:
        plan_sweep(request(work, "train.seed=1,2,3", "optim.lr=fast"))
    assert [problem.where for problem in caught.value.problems] == ["optim.lr", "-m"]
    assert "[every member]" in str(caught.value)


def test_an_unknown_recipe_is_not_found(work: Path) -> None:
    with pytest.raises(NotFoundError, match="demo"):
        plan_sweep(request(work, "train.seed=1,2", recipe="dem"))


def test_runs_of_numbers_are_shortened() -> None:
    assert ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
