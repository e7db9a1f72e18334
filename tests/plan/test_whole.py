"""A whole run: how many steps, hours, failures and checkpoints, and how much disk."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from launcher.checkpoint.retain import policy_for, to_remove
from launcher.cli.page import page
from launcher.config.schema import Config
from launcher.data.make.prepare import prepare
from launcher.errors import UserError
from launcher.plan.build import Request, plan_config, plan_request
from launcher.plan.whole import RESTART_S, goodput, most_kept, saves
from launcher.runplan import RunPlan
from launcher.runs.interval import best_interval
from tests.plan.test_memory import recipe

LONG = ("train.epochs=null", "train.max_steps=20000")


@cache
def base() -> Config:
    return recipe("sft_llama3_8b")[0]


def planned(work: Path, *overrides: str, name: str = "sft_llama3_8b") -> RunPlan:
    return plan_request(Request(recipe=name, overrides=overrides, config_dir=None, work_dir=work))


def test_hours_are_steps_and_what_checkpoints_and_failures_cost(work: Path) -> None:
    plan = planned(work, *LONG, "cluster.gpu_hour_price=2.5", "cluster.mttf_hours_per_gpu=1000")
    expected, pace = plan.expected, plan.expected.pace
    assert pace.step_s is not None
    assert expected.steps == 20000
    share = 200 * pace.step_s / (200 * pace.step_s + pace.stall_s)
    share *= 1 - (100 * pace.step_s + RESTART_S) / (3600 * 1000 / 8)
    assert expected.goodput == pytest.approx(share)
    assert expected.hours == pytest.approx(20000 * pace.step_s / share / 3600)
    assert expected.gpu_hours == pytest.approx(8 * (expected.hours or 0))
    assert expected.price == pytest.approx(2.5 * (expected.gpu_hours or 0))
    assert expected.interruptions == pytest.approx((expected.gpu_hours or 0) / 1000)
    assert expected.saves == 100
    assert expected.best_every == best_interval(3600 * 1000 / 8, pace.save_s, pace.stall_s, pace.step_s)
    told = page(plan)
    assert f"{expected.price:,.2f} at 2.5 a GPU-hour" in told
    assert "at one in 1,000 GPU-hours" in told


def test_the_suggested_interval_loses_least(work: Path) -> None:
    plan = planned(work, *LONG, "cluster.mttf_hours_per_gpu=500", "checkpoint.asynchronous=false")
    best = plan.expected.best_every
    assert best is not None
    config, topology, pace = plan.config, plan.topology, plan.expected.pace
    shares = {every: goodput(config, topology, pace, every) or 0 for every in (best // 2, best, best * 2)}
    assert max(shares, key=lambda every: shares[every]) == best


def test_a_run_that_never_gets_on_has_no_hours(work: Path) -> None:
    expected = planned(work, *LONG, "cluster.mttf_hours_per_gpu=0.5").expected
    assert (expected.goodput, expected.hours, expected.jobs) == (0, None, None)


def test_without_failures_only_checkpoints_cost_time(work: Path) -> None:
    expected = planned(work, *LONG, "cluster.mttf_hours_per_gpu=null").expected
    assert (expected.interruptions, expected.best_every) == (None, None)
    assert 0.99 < (expected.goodput or 0) < 1


def test_a_run_beyond_the_time_limit_takes_several_jobs(work: Path) -> None:
    plan = planned(work, *LONG, "cluster.time_min=600")
    hours = plan.expected.hours
    assert hours is not None
    of_each_h = (36000 - plan.lead.seconds - RESTART_S) / 3600
    assert plan.expected.jobs == -(-hours // of_each_h) == 4
    assert planned(work, *LONG, "cluster.time_min=6000").expected.jobs == 1
    assert planned(work, *LONG, "cluster=local", "cluster.gpus_per_node=8").expected.jobs is None


def test_a_step_that_takes_long_is_waited_for_before_the_time_limit(work: Path) -> None:
    slow = planned(work, "cluster.efficiency=0.01")
    assert slow.expected.pace.step_s is not None
    assert slow.lead.step_s == pytest.approx(slow.expected.pace.step_s, abs=0.1)
    assert planned(work).lead.step_s == 30


def test_without_prepared_data_steps_are_not_known_and_a_thousand_are_told(work: Path) -> None:
    plan = planned(work)
    assert (plan.expected.steps, plan.expected.hours) == (None, None)
    assert "steps: known once the data is prepared; 1,000 of them take 13 GPU-hours" in page(plan)


@pytest.mark.parametrize("packing", [False, True])
def test_prepared_data_tells_steps_and_tokens(demo: Path, work: Path, packing: bool) -> None:
    from tests.workbench import write_rows, write_tokenizer

    write_tokenizer(demo / "model")
    write_rows(demo / "train.jsonl", 40)
    words = ("train.max_steps=null", "train.epochs=3", "data.seq_len=128", f"data.packing={str(packing).lower()}")
    before = planned(work, *words, name="demo")
    assert (before.expected.steps, before.expected.pace.tokens) == (None, 16 * 128)
    folder = prepare(before.train_data, Path(before.data_cache), workers=1)
    after = planned(work, *words, name="demo")
    from launcher.data.feed.samples import Samples
    from launcher.data.tokens import TokenStore

    store = TokenStore(folder)
    samples = Samples(store, packed=packing)
    assert after.expected.steps == -(-3 * len(samples) // 16)
    assert after.expected.pace.tokens == round(16 * store.meta.tokens / len(samples))
    assert f"of {len(samples):,} samples in the prepared data" in after.expected.steps_how


@settings(deadline=None, max_examples=100)
@given(
    steps=st.integers(1, 120),
    every=st.none() | st.integers(1, 60),
    last=st.none() | st.integers(1, 5),
    also=st.none() | st.integers(1, 90),
    looks=st.none() | st.integers(1, 60),
)
def test_no_more_checkpoints_are_there_than_is_told(
    steps: int, every: int | None, last: int | None, also: int | None, looks: int | None
) -> None:
    config = base()
    also = also if last is not None else None
    config = replace(
        config,
        checkpoint=replace(config.checkpoint, every_steps=every, keep_last=last, keep_every=also),
        train=replace(config.train, eval_every=looks, patience=None if looks is None else 2),
    )
    due = [number for number in (every, looks) if number is not None]
    written = [step for step in range(1, steps + 1) if step == steps or any(step % number == 0 for number in due)]
    assert saves(config, steps) == len(written)
    policy, there, most = policy_for(config), list[int](), 0
    for step in written:
        there.append(step)
        most = max(most, len(there))
        gone = to_remove(there, policy, {step: float(step) for step in there})
        there = [step for step in there if step not in gone]
    told = most_kept(policy, config, steps)
    assert told is not None
    assert most <= told
    if also is None and looks is None:
        assert most == told


def test_the_disk_of_a_run_whose_length_is_not_known(work: Path) -> None:
    assert planned(work).expected.disk.most == 4
    assert planned(work, "checkpoint.keep_last=null").expected.disk.most is None
    assert planned(work, "checkpoint.keep_last=null", *LONG).expected.disk.most == 100
    assert planned(work, "checkpoint.keep_every=1000").expected.disk.most is None
    assert planned(work, "checkpoint.keep_every=1000", *LONG).expected.disk.most == 24


@pytest.mark.parametrize(("stage", "files"), [(0, 2), (1, 10), (2, 10), (3, 17)])
def test_files_of_a_checkpoint(work: Path, stage: int, files: int) -> None:
    assert planned(work, f"zero=zero{stage}").expected.disk.files == files


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    efficiency=st.sampled_from([1e-3, 1.0]),
    link=st.sampled_from([1e-3, 1e15]),
    mttf=st.sampled_from([None, 1e-3, 1e15]),
    price=st.sampled_from([None, 0.0, 1e15]),
    peak=st.sampled_from([None, 1e-3, 1e15]),
    steps=st.sampled_from([1, 10**15]),
    every=st.sampled_from([None, 1, 10**15]),
    minutes=st.sampled_from([1, 10**15]),
)
def test_figures_at_the_ends_of_what_is_allowed_are_reckoned_with(
    work: Path,
    efficiency: float,
    link: float,
    mttf: float | None,
    price: float | None,
    peak: float | None,
    steps: int,
    every: int | None,
    minutes: int,
) -> None:
    config = base()
    cluster = replace(
        config.cluster,
        efficiency=efficiency,
        interconnect_gb_s=link,
        gpu_link_gb_s=link,
        mttf_hours_per_gpu=mttf,
        gpu_hour_price=price,
        peak_tflops=peak,
        time_min=minutes,
    )
    config = replace(
        config,
        cluster=cluster,
        train=replace(config.train, max_steps=steps, epochs=None),
        checkpoint=replace(config.checkpoint, every_steps=every),
    )
    plan = plan_config(config, [], recipe="r", run_id="RUN", work_dir=work)
    page(plan)
    json.dumps(plan.to_json(), allow_nan=False)
    assert 0 <= (plan.expected.goodput or 0) <= 1


@pytest.mark.parametrize("name", ["efficiency", "peak_tflops", "mttf_hours_per_gpu", "gpu_hour_price"])
def test_figures_beyond_that_are_refused(work: Path, name: str) -> None:
    for value in ("-1", "1e16"):
        with pytest.raises(UserError, match=rf"cluster\.{name}"):
            planned(work, f"cluster.{name}={value}")
