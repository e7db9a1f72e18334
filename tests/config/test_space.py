"""What a sweep leaves open: each kind of axis, how its points are written, and what is no space."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from launcher.config.search import search_path
from launcher.config.space import Axis, Interval, Values, space_of
from launcher.errors import UserError

SEARCH = search_path(None, Path("/nowhere"))


def axis(word: str) -> Axis:
    (found,) = space_of([word], SEARCH).axes
    return found


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("optim.lr=tag(log,interval(1e-6,1e-4))", Interval(key="optim.lr", low=1e-6, high=1e-4, log=True)),
        ("optim.lr=interval(0,1)", Interval(key="optim.lr", low=0.0, high=1.0, log=False)),
        ("adapter.r=tag(log,int(interval(4,64)))", Interval(key="adapter.r", low=4, high=64, log=True)),
        ("train.seed=interval(0.5,8)", Interval(key="train.seed", low=1, high=8, log=False)),
        ("++deepspeed.extra.a=choice(x,y,x)", Values(key="++deepspeed.extra.a", values=["x", "y"], ordered=False)),
        ("train.seed=range(1,6,2)", Values(key="train.seed", values=["1", "3", "5"], ordered=True)),
        ("zero=glob(zero?,exclude=zero0)", Values(key="zero", values=["zero1", "zero2", "zero3"], ordered=False)),
    ],
)
def test_each_kind_of_sweep_is_an_axis(word: str, meant: Axis) -> None:
    assert axis(word) == meant


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optim.lr=interval(2,1)", "nothing between"),
        ("optim.lr=interval(0,inf)", "nothing between"),
        ("optim.lr=tag(log,interval(0,1))", "above 0"),
        ("optim.lr=tag(log,choice(1,2))", "tag(log, interval(LOW, HIGH))"),
        ("optim.lr=tag(lin,interval(0,1))", "tag(lin, …) means nothing"),
        ("train.seed=shuffle(range(1,5))", "leave shuffle() out"),
        ("train.seed=range(0,1000000000)", "int(interval("),
        ("train.seed=interval(1.2,1.8)", "no two whole numbers"),
        ("train.seed=range(0,5,0)", "steps of 0"),
        ("optim.lr=1", "nothing here sweeps"),
    ],
)
def test_what_is_no_space_is_refused(word: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        space_of([word], SEARCH)
    assert said in str(caught.value)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(UserError) as caught:
        space_of(["optim.lr=interval(2,1)", "train.seed=shuffle(1,2)", "train.seed=3"], SEARCH)
    assert [problem.where for problem in caught.value.problems] == [
        "train.seed",
        "optim.lr=interval(2,1)",
        "train.seed=shuffle(1,2)",
    ]


@pytest.mark.parametrize(
    "word",
    [
        "optim.lr=tag(log,interval(1e-6,1e-4))",
        "optim.lr=interval(-1,1000)",
        "optim.lr=interval(1.00001,1.00002)",
        "adapter.r=tag(log,int(interval(4,64)))",
        "train.seed=range(1,60,2)",
        "tracking.project='a=b','c, d'",
    ],
)
def test_points_are_written_so_that_they_are_read_as_they_were(word: str) -> None:
    one, chance = axis(word), random.Random(0)
    texts = [one.text(one.anywhere(chance)) for _ in range(200)]
    assert [one.text(one.point(text)) for text in texts] == texts
    assert len(set(texts)) > 1
    assert max(map(len, texts)) <= len("1.00001234567")


def test_no_rounding_leaves_an_interval() -> None:
    one = axis("optim.lr=interval(0.123456789,0.987654321)")
    assert [float(one.text(end)) for end in (0.123456789, 0.987654321)] == [0.123457, 0.987654]
    assert axis("optim.lr=tag(log,interval(1.23454321e-5,1e-4))").text(1.23454321e-5) == "1.23454321e-05"


def test_a_space_knows_how_many_members_it_can_have() -> None:
    assert space_of(["train.seed=1,2,2", "adapter.r=int(interval(1,4))", "zero=zero1,zero3"], SEARCH).size == 16
    assert space_of(["train.seed=1,2", "optim.lr=interval(0,1)"], SEARCH).size is None
    with pytest.raises(ValueError, match="other keys"):
        space_of(["train.seed=1,2"], SEARCH).points(["optim.lr=1"])
