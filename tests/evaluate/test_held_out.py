"""Means over held-out sets and slices, against sums done by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.distributed as dist

from launcher.data.feed.batches import Layout
from launcher.data.feed.samples import Samples
from launcher.evaluate.held_out import Summed, by_slice, measured, summed_all
from launcher.evaluate.sets import Groups, HeldOutSet
from launcher.objectives.registry import load
from tests.data.conftest import MakeStore, make_store
from tests.evaluate.engines import Engine

__all__ = ["make_store"]
SFT = load("sft")


def summed(totals: list[list[float]], tokens: list[int], examples: list[int]) -> Summed:
    return Summed(
        names=("loss", "token_accuracy"),
        totals=np.array(totals, dtype=np.float64),
        counts=None,
        tokens=np.array(tokens, dtype=np.int64),
        examples=np.array(examples, dtype=np.int64),
    )


def test_one_set_without_a_name_is_all_there_is() -> None:
    found = measured(SFT, {"eval": summed([[12.0, 3.0], [8.0, 1.0]], [6, 4], [2, 1])})
    assert found == {
        "eval_loss": pytest.approx(2.0, abs=1e-12),
        "eval_token_accuracy": pytest.approx(0.4, abs=1e-12),
        "eval_perplexity": pytest.approx(math.exp(2.0), abs=1e-9),
    }


def test_sets_with_names_are_told_apart_and_together_each_token_counts_as_much() -> None:
    sets = {"eval_near": summed([[30.0, 6.0]], [10], [2]), "eval_far": summed([[20.0, 1.0]], [40], [4])}
    found = measured(SFT, sets)
    assert found["eval_near_loss"] == pytest.approx(3.0, abs=1e-12)
    assert found["eval_far_loss"] == pytest.approx(0.5, abs=1e-12)
    assert found["eval_far_perplexity"] == pytest.approx(math.exp(0.5), abs=1e-9)
    assert (found["eval_near_tokens"], found["eval_far_tokens"]) == (10, 40)
    assert found["eval_loss"] == pytest.approx(50 / 50, abs=1e-12)
    assert found["eval_token_accuracy"] == pytest.approx(7 / 50, abs=1e-12)


def test_counts_of_sets_are_summarised_together() -> None:
    classify = load("classify", {"labels": ["a", "b"]})
    counts = np.concatenate([[1.0, 0.0], [2.0, 1.0], [1.0, 2.0], np.zeros(30)])
    one = Summed(
        names=("loss", "accuracy"),
        totals=np.array([[3.0, 1.0]]),
        counts=counts,
        tokens=np.array([3]),
        examples=np.array([3], dtype=np.int64),
    )
    found = measured(classify, {"eval_x": one, "eval_y": one})
    assert found["eval_loss"] == found["eval_x_loss"] == pytest.approx(1.0, abs=1e-12)
    assert found["eval_f1_macro"] == pytest.approx(found["eval_y_f1_macro"], abs=1e-12)
    assert found["eval_f1_macro"] == pytest.approx((2 / 3 + 0) / 2, abs=1e-12)


def test_a_slice_adds_up_every_group_that_has_the_value() -> None:
    groups = Groups(
        of=np.zeros(0, dtype=np.int64),
        members=np.array([[0, 0], [0, 1], [1, 0]]),
        values={"lang": ("de", "fr", "unused"), "source": ("web", "book")},
    )
    one = summed([[4.0, 2.0], [6.0, 1.0], [9.0, 0.0]], [2, 3, 0], [1, 2, 1])
    found = by_slice(SFT, one, groups)
    assert found["lang"] == {
        "de": {"examples": 3, "tokens": 5, "loss": 2.0, "token_accuracy": 0.6},
        "fr": {"examples": 1, "tokens": 0, "loss": None, "token_accuracy": None},
    }
    assert found["source"]["book"] == {"examples": 2, "tokens": 3, "loss": 2.0, "token_accuracy": pytest.approx(1 / 3)}
    assert found["source"]["web"]["examples"] == 2


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_rows_told_apart_add_up_to_the_rows_together(alone: None, make_store: MakeStore) -> None:
    rows = [([3 + number, *range(20, 22 + number % 4)], [False, *[True] * (2 + number % 4)]) for number in range(11)]
    samples, engine = Samples(make_store(rows), packed=False), Engine()
    of = np.array([number % 3 for number in range(11)])
    groups = Groups(of=of, members=np.array([[0], [1], [2]]), values={"kind": ("a", "b", "c")})
    layout = Layout(micro_batch_size=2, pad_id=0, flat=False)

    def summed_by(held_out: HeldOutSet) -> Summed:
        found = summed_all(
            engine,
            SFT,
            held_out,
            layout,
            device=torch.device("cpu"),
            before_batch=lambda: None,
            stopped=lambda: False,
        )
        assert found is not None
        return found

    whole, apart = summed_by(HeldOutSet(samples=samples)), summed_by(HeldOutSet(samples=samples, groups=groups))
    assert engine.training
    assert apart.totals.sum(axis=0) == pytest.approx(whole.totals.sum(axis=0), rel=1e-5)
    assert (apart.tokens.sum(), apart.examples.tolist()) == (whole.tokens.sum(), [4, 4, 3])
    engine.eval()
    for place, numbers in enumerate(by_slice(SFT, apart, groups)["kind"].values()):
        loss = 0.0
        for number in range(place, 11, 3):
            ids = torch.tensor([rows[number][0]])
            with torch.no_grad():
                logps = engine.module(input_ids=ids).logits[0, :-1].log_softmax(dim=-1)
            loss -= float(logps.gather(1, ids[0, 1:, None]).sum())
        tokens = sum(len(rows[number][0]) - 1 for number in range(place, 11, 3))
        assert numbers["tokens"] == tokens
        assert numbers["loss"] == pytest.approx(loss / tokens, rel=1e-5)
