"""What Optuna's samplers ask for, here with the real one."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from launcher.config.sampling import Sampler, SamplingConfig
from launcher.config.search import search_path
from launcher.config.space import Space, space_of
from launcher.errors import UserError
from launcher.plan.build import Request, plan_request
from launcher.plan.draw import Tried, draw
from launcher.plan.sweep import plan_drawn

SEARCH = search_path(None, Path("/nowhere"))
MIXED = [
    "optim.lr=tag(log,interval(1e-6,1e-4))",
    "adapter.r=int(interval(4,64))",
    "train.seed=range(0,10,3)",
    "zero=zero1,zero3",
    "precision=bf16",
]
LR = ["optim.lr=tag(log,interval(1e-6,1e-2))"]


def how(sampler: str, seed: int = 0, best: str = "eval_loss") -> SamplingConfig:
    return SamplingConfig(sampler=Sampler(sampler), best=best, seed=seed, startup=5)


def space(words: Sequence[str]) -> Space:
    return space_of(words, SEARCH)


def measured(members: Sequence[list[str]], cost: Callable[[list[str]], float | None]) -> list[Tried]:
    return [Tried(overrides=member, cost=cost(member), active=False) for member in members]


def magnitude(member: list[str]) -> float:
    return math.log10(float(member[0].partition("=")[2]))


def bowl(member: list[str]) -> float:
    """Least at a rate of 1e-3."""
    return (magnitude(member) + 3) ** 2


@pytest.mark.parametrize("sampler", [one.value for one in Sampler])
def test_every_sampler_draws_different_members_from_a_mixed_space_and_the_same_by_the_same_seed(sampler: str) -> None:
    found = draw(space(MIXED), 12, how(sampler), [])
    assert len({tuple(member) for member in found}) == 12
    for member in found:
        assert space(MIXED).member(space(MIXED).points(member)) == member
    assert draw(space(MIXED), 12, how(sampler), []) == found
    assert draw(space(MIXED), 12, how(sampler, seed=1), []) != found


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_a_sampler_that_does_not_learn_goes_on_where_it_stopped(sampler: str) -> None:
    whole = draw(space(MIXED), 20, how(sampler), [])
    assert draw(space(MIXED), 12, how(sampler), measured(whole[:8], lambda member: None)) == whole[8:]


@pytest.mark.parametrize(("sampler", "count", "near"), [("tpe", 8, 0.7), ("gp", 1, 0.7), ("random", 8, 99)])
def test_what_members_came_to_draws_the_next_ones_near_the_best(sampler: str, count: int, near: float) -> None:
    first = draw(space(LR), 16, how("random"), [])
    then = draw(space(LR), count, how(sampler), measured(first, bowl))
    other = draw(space(LR), count, how(sampler), measured(first, lambda member: (magnitude(member) + 5.5) ** 2))
    far = [abs(magnitude(member) + 3) for member in then]
    assert statistics.median(far) < near
    # It is the costs that draw them there, and nothing else.
    assert (then == other) == (sampler == "random")


def test_what_runs_is_kept_away_from_and_what_failed_tells_nothing() -> None:
    first = draw(space(LR), 16, how("random"), [])
    known = measured(first, bowl)
    there = draw(space(LR), 1, how("tpe"), known)[0]
    running = [Tried(overrides=there, cost=None, active=True)] * 6
    failed = [Tried(overrides=there, cost=None, active=False)] * 6
    away = [magnitude(one) for one in draw(space(LR), 8, how("tpe"), [*known, *running])]
    still = [magnitude(one) for one in draw(space(LR), 8, how("tpe"), [*known, *failed])]
    near = magnitude(there)
    assert sum(abs(one - near) for one in away) > sum(abs(one - near) for one in still)


@pytest.mark.parametrize("sampler", [one.value for one in Sampler])
def test_no_member_is_drawn_twice_even_where_few_are_left(sampler: str) -> None:
    few = space(["train.seed=1,2,3", "zero=zero1,zero3"])
    first = draw(few, 4, how(sampler), [])
    # Of one setting all is good, so that a sampler would have it again and again.
    rest = draw(few, 2, how(sampler), measured(first, lambda member: float(member != first[0])))
    assert len({tuple(member) for member in [*first, *rest]}) == 6
    with pytest.raises(UserError, match=r"6 combinations, 2 of which are left"):
        draw(few, 3, how(sampler), measured(first, lambda member: 0.0))
    with pytest.raises(UserError, match="leave --trials out"):
        draw(few, 7, how(sampler), [])


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_as_many_as_a_sweep_can_have_and_no_more(count: int) -> None:
    with pytest.raises(UserError, match="out of range"):
        draw(space(LR), count, how("random"), [])
    with pytest.raises(UserError, match="2 of which there are"):
        draw(space(LR), 9_999, how("random"), measured([["optim.lr=0.001"], ["optim.lr=0.002"]], bowl))


def test_a_member_that_is_not_in_the_space_any_more_tells_nothing() -> None:
    known = measured(draw(space(LR), 8, how("random"), []), bowl)
    elsewhere = Tried(overrides=["optim.lr=1.0"], cost=0.0, active=False)
    assert len(draw(space(LR), 2, how("tpe"), [elsewhere, *known])) == 2


@pytest.mark.parametrize("missing", ["optuna", "scipy"])
def test_without_optuna_it_is_said_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"pip install 'zero-launcher\[optuna\]'"):
        draw(space(LR), 2, how("tpe"), [])


def request(work: Path, *words: str) -> Request:
    return Request(recipe="demo", overrides=words, config_dir=None, work_dir=work)


def test_drawn_members_are_planned_as_they_would_be_alone(demo: Path, work: Path) -> None:
    words = ("zero=zero1,zero3", *LR, "optim=adamw,lion", "precision=fp32")
    drawn = plan_drawn(request(work, *words), 4, how("tpe"))
    for index, plan in enumerate(drawn.plans):
        alone = plan_request(request(work, *drawn.sweep.overrides(index)))
        assert plan.config == alone.config
        assert plan.run_id == f"{drawn.sweep_id}-{index:04d}"


def test_a_measure_that_no_member_will_have_is_refused(demo: Path, work: Path) -> None:
    with pytest.raises(UserError, match="valid: eval_loss"):
        plan_drawn(request(work, *LR), 2, how("tpe", best="eval_los"))
    with pytest.raises(UserError, match="--best loss"):
        plan_drawn(request(work, *LR, "data.eval=null"), 2, how("tpe"))
    assert plan_drawn(request(work, *LR, "data.eval=null"), 2, how("tpe", best="loss")).plans


def test_a_broken_member_is_named_with_its_number_in_the_sweep(demo: Path, work: Path) -> None:
    earlier = measured([["train.max_steps=1"], ["train.max_steps=2"]], lambda member: 0.0)
    with pytest.raises(UserError) as caught:
        plan_drawn(request(work, "train.max_steps=1,2,-3,4"), 2, how("random"), sweep_id="s", tried=earlier)
    assert "train.max_steps=-3" in str(caught.value)
    assert "member 2" in str(caught.value) or "member 3" in str(caught.value)
    assert "1 of 2 members cannot run" in str(caught.value)
