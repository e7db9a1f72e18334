"""An objective that must see everything before it scores anything sees every held-out batch first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from launcher.data.feed.batches import Layout, MicroBatch
from launcher.data.feed.samples import Samples
from launcher.evaluate.held_out import VOTE_EVERY, measured, summed_all
from launcher.evaluate.sets import HeldOutSet
from launcher.objectives.protocol import Needs, Per, Scored
from tests.data.conftest import MakeStore
from tests.data.conftest import make_store as make_store

ROWS = VOTE_EVERY + 3


class Looks:
    """Counts its batches, and tells when it was asked for what."""

    name = "looks"
    needs = Needs(per=Per.example)
    measures = ("seen",)

    def __init__(self) -> None:
        self.did: list[str] = []
        self.seen = 0

    def look_all(self, model: torch.nn.Module, batches: Iterable[MicroBatch]) -> None:
        self.did.append("looked")
        self.seen = sum(batch.rows for batch in batches)

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        self.did.append("scored")
        value = torch.tensor(float(self.seen * batch.rows))
        return Scored(loss_sum=value, sums={"seen": value})

    def summarise(self, counts: list[float]) -> dict[str, float]:
        return {}


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def evaluated(objective: Any, samples: Samples, heard: Iterator[bool], modes: list[str]) -> dict[str, float] | None:
    engine = SimpleNamespace(eval=lambda: modes.append("eval"), train=lambda: modes.append("train"))
    found = summed_all(
        engine,
        objective,
        HeldOutSet(samples=samples),
        Layout(micro_batch_size=1, pad_id=0, flat=False),
        device=torch.device("cpu"),
        before_batch=lambda: None,
        stopped=lambda: next(heard),
    )
    return None if found is None else measured(objective, {"eval": found})


def test_it_looks_at_all_before_it_scores_the_first(group: None, make_store: MakeStore) -> None:
    samples, objective = Samples(make_store([([1, 2], [False, True])] * ROWS), packed=False), Looks()
    found = evaluated(objective, samples, iter([False] * 4), [])
    assert objective.did == ["looked", *["scored"] * ROWS]
    assert found is not None
    assert found["eval_seen"] == ROWS


@pytest.mark.parametrize("votes", [0, 1, 2])
def test_told_to_stop_it_measures_nothing_and_trains_on(group: None, make_store: MakeStore, votes: int) -> None:
    samples, modes = Samples(make_store([([1, 2], [False, True])] * ROWS), packed=False), list[str]()
    assert evaluated(Looks(), samples, iter([*[False] * votes, True]), modes) is None
    assert modes == ["eval", "train"]
