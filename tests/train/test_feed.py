"""What a step is fed, and how long a run is: rows, packs, and sources that take turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.data.feed.batches import IGNORED, Layout
from launcher.data.feed.order import Order, checksum
from launcher.data.feed.samples import Samples
from launcher.data.source import DataSpec
from launcher.errors import UserError
from launcher.length import step_count
from launcher.plan.build import Request, plan_request
from launcher.runplan import Batch, RunPlan
from launcher.train.feed import layout_of, order_of, step_data
from launcher.train.skips import Skip
from tests.data.conftest import MakeStore, Row, make_store

__all__ = ["make_store"]

BATCH = Batch(global_batch_size=4, micro_batch_size=1, accumulation=2, data_parallel_size=2, chosen="")
LAYOUT = Layout(micro_batch_size=1, pad_id=0, flat=False)


def rows(count: int, length: int) -> list[Row]:
    return [([7] * (length + i % 3), [False] + [True] * (length - 1 + i % 3)) for i in range(count)]


@pytest.fixture
def plan(demo: Path, work: Path) -> RunPlan:
    return planned(work)


def planned(work: Path, *overrides: str) -> RunPlan:
    return plan_request(Request(recipe="demo", overrides=overrides, config_dir=None, work_dir=work))


def mixed(spec: DataSpec, **values: list[Any]) -> DataSpec:
    """A spec of as many sources as there are values, each with its own."""
    (source,) = spec.sources
    changes = [dict(zip(values, each, strict=True)) for each in zip(*values.values(), strict=True)]
    return replace(spec, sources=tuple(replace(source, name=f"s{i}", **each) for i, each in enumerate(changes)))


@pytest.mark.parametrize("packed", [False, True])
def test_counts_of_a_step_are_those_of_the_batches_of_all_ranks(make_store: MakeStore, packed: bool) -> None:
    samples = Samples(make_store(rows(30, 5), seq_len=16), packed=packed)
    order = Order(seed=1, sizes=samples.sizes)
    feeds = [step_data(samples, order, LAYOUT, BATCH, rank=rank, start=2, stop=6) for rank in range(2)]
    for step, both in enumerate(zip(*feeds, strict=True), start=2):
        batches = [batch for data in both for batch in data.batches]
        assert {data.step for data in both} == {step}
        assert {data.trained for data in both} == {sum(int((b.labels[:, 1:] != IGNORED).sum()) for b in batches)}
        assert {data.processed for data in both} == {sum(int((b.input_ids != 0).sum()) for b in batches)}
        # The sum over ranks names the samples of the step, however they were cut.
        assert sum(data.fed for data in both) == checksum(order.samples_of_step(step, 4).tolist())


def test_skipped_samples_are_never_fed(make_store: MakeStore) -> None:
    samples = Samples(make_store(rows(60, 5), seq_len=16), packed=True)
    order = Order(seed=1, sizes=samples.sizes)
    skips = [Skip(step=1, count=2, reason="")]
    data = list(step_data(samples, order, LAYOUT, BATCH, rank=0, start=0, stop=3, skips=skips))
    fed = [[batch.samples[0] for batch in each.batches] for each in data]
    assert fed == [order.samples_of_step(step, 4)[[0, 2]].tolist() for step in (0, 3, 4)]


def test_sources_take_turns_by_weight_and_by_count(make_store: MakeStore, plan: RunPlan) -> None:
    samples = Samples(make_store(rows(30, 5), rows(9, 5), seq_len=16), packed=False)
    for spec in (mixed(plan.train_data, weight=[0.25, 0.75]), mixed(plan.train_data, count=[10, 30])):
        chosen = order_of(spec, samples, 1).samples_of_step(0, 400)
        assert (chosen >= 30).sum() == 300
    alone = order_of(mixed(plan.train_data, weight=[None, None]), samples, 1)
    assert sorted(alone.samples_of_step(0, 39)) == list(range(39))


def test_packs_take_turns_as_rows_do(make_store: MakeStore, plan: RunPlan) -> None:
    samples = Samples(make_store(rows(30, 5), rows(9, 5), seq_len=16), packed=True)
    chosen = order_of(mixed(plan.train_data, weight=[1.0, 1.0]), samples, 1).samples_of_step(0, 400)
    assert (np.array(chosen) < samples.sizes[0]).sum() == 200


def test_a_source_without_rows_cannot_take_turns(make_store: MakeStore, plan: RunPlan) -> None:
    samples = Samples(make_store(rows(3, 5), []), packed=False)
    with pytest.raises(UserError, match="s1 has no rows"):
        order_of(mixed(plan.train_data, weight=[1.0, 1.0]), samples, 1)
    assert order_of(mixed(plan.train_data, weight=[None, None]), samples, 1).sizes == (3, 0)


def test_an_epoch_counts_rows_or_packs_or_what_was_counted(make_store: MakeStore, demo: Path, work: Path) -> None:
    plan = planned(work, "train.max_steps=null", "train.epochs=2", "train.global_batch_size=4")
    store = make_store(rows(30, 5), rows(9, 5), seq_len=16)
    spec = mixed(plan.train_data, count=[50, 51])
    steps = [
        step_count(plan.config, order_of(spec, Samples(store, packed=packed), 1).epoch_size)
        for spec in (mixed(plan.train_data, count=[None, None]), spec)
        for packed in (False, True)
    ]
    assert steps == [20, -(-2 * store.packs // 4), 51, 51]


def test_variable_length_kernels_get_packs_end_to_end(demo: Path, work: Path) -> None:
    for kernel, flat in (("eager", False), ("sdpa", False), ("flash_attention_2", True)):
        plan = planned(work, f"model.attention={kernel}", "precision=bf16")
        layout = layout_of(plan.config, plan.batch)
        assert (layout.flat, layout.micro_batch_size) == (flat, plan.batch.micro_batch_size)
