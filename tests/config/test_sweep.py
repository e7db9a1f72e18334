"""A sweep's words become members, and each member's config is the one that composing it alone gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.config.compose import compose
from launcher.config.search import search_path
from launcher.config.sweep import Composer, expand
from launcher.errors import UserError

pytestmark = pytest.mark.slow

SEARCH = search_path(None, Path("/nowhere"))


def members(*words: str) -> list[list[str]]:
    return expand(words, SEARCH).members


def refused(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        expand(words, SEARCH)
    return str(caught.value)


def test_every_combination_is_a_member_and_the_last_key_changes_fastest() -> None:
    sweep = expand(["optim.lr=0.1,0.2", "precision=bf16", "train.seed=range(1,4)"], SEARCH)
    assert sweep.fixed == ["precision=bf16"]
    pairs = itertools.product(["optim.lr=0.1", "optim.lr=0.2"], ["train.seed=1", "train.seed=2", "train.seed=3"])
    assert sweep.members == [list(pair) for pair in pairs]
    assert sweep.overrides(4) == ["precision=bf16", "optim.lr=0.2", "train.seed=2"]


def test_a_glob_chooses_among_a_groups_files() -> None:
    assert members("zero=glob(zero?,exclude=zero0)") == [[f"zero=zero{stage}"] for stage in (1, 2, 3)]
    assert "a value" in refused("train.seed=glob(*)")
    assert "zero1" in refused("zero=glob(nothing*)")


def test_values_with_commas_and_spaces_keep_their_quotes() -> None:
    (first,), (second,) = members("tracking.project='a, b',c")
    assert compose("demo", [first], SEARCH).config.tracking.project == "a, b"  # type: ignore[union-attr]
    assert second == "tracking.project=c"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.lr=1"], "nothing here sweeps"),
        (["optim.lr=1,2", "optim.lr=3"], "set once more"),
        (["optim.lr=1,2", "optim.lr=3,4"], "set once more"),
        (["optim.lr=interval(1,2)"], "range(START,STOP,STEP)"),
        (["runs_root=a,b"], "lie together"),
        (["train.seed=range(1000000000)"], "at most 10,000"),
        (["train.seed=range(1,5,0)"], "steps of 0"),
        (["optim.lr=range(0,200)", "train.seed=range(200)"], "40,000 members"),
        (["train.seed=1,2", "optim.lr"], "not an override"),
    ],
)
def test_what_is_no_sweep_is_refused(words: list[str], said: str) -> None:
    assert said in refused(*words)


SWEEPS = [
    ["optim.lr=1e-5,2e-5", "train.seed=1,2"],
    ["zero=zero1,zero3", "zero.offload_optimizer=true,false", "optim=adamw,lion"],
    ["++cluster.environment.A=1,2", "cluster.environment.B=x", "checkpoint.every_steps=5,null"],
    ["optim={lr:1e-3},{lr:1e-4}", "train.seed=1,2"],
    ["++deepspeed.extra={a:1},{b:2}"],
    ["data.train=[/a/x.jsonl],[{path:/a/y.jsonl}],/a/z.jsonl"],
    ["tracking.project='${optim.lr}',b", "optim.lr=1,2"],
    ["runs_root='/r/${train.seed}'", "train.seed=1,2,3"],
    ["optim.lr=1,fast", "train.seed=2,slow,-1"],
    ["zero=zero1,zero9", "optim.lr=1,2"],
    ["zero.stgae=1,2", "optim.lr=0.1,0.2"],
    ["hydra.verbose=true,false"],
    ["~optim.lr", "train.seed=1,2"],
    ["data.eval=null,/a/e.jsonl", "+data.slices=[source],[]"],
]


@pytest.mark.parametrize("words", SWEEPS, ids=" ".join)
def test_a_members_config_is_what_composing_it_alone_gives(words: Sequence[str]) -> None:
    sweep = expand(words, SEARCH)
    composer = Composer(recipe="demo", search=SEARCH)
    # Backwards too: what one member sets must not reach the next.
    order = [*range(len(sweep.members)), *reversed(range(len(sweep.members)))]
    for index in order:
        alone, together = (
            compose("demo", sweep.overrides(index), SEARCH),
            composer.compose(sweep.members[index], sweep.fixed),
        )
        if alone.problems:
            # Of two mistakes, one that Hydra refuses may hide one that validation would find.
            assert together.problems
        else:
            assert together == alone
