"""Time of a step: operations and bytes as the papers count them, and what is said where a rate is not known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.models.shape import flops_per_token
from launcher.plan.memory import plan_memory
from launcher.plan.pace import pace, step_tokens
from launcher.plan.time import Setting, compute_s, overlapped, rate, step_s, traffic_s, utilisation
from tests.plan.test_memory import recipe

PARAMETERS = 8_030_261_248
TOKENS = 64 * 4096


composed = cache(recipe)


def setting(
    *overrides: str, name: str = "sft_llama3_8b", nodes: int = 1, accumulation: int = 2, **other: Any
) -> Setting:
    config, shape = composed(name, *overrides)
    tokens, row_tokens = step_tokens(config, None)
    made = Setting(
        config=config,
        shape=shape,
        frozen=0,
        memory=plan_memory(config, shape, 8 * nodes, 4),
        nodes=nodes,
        ranks=8 * nodes,
        accumulation=accumulation,
        tokens=tokens,
        row_tokens=row_tokens,
    )
    return replace(made, **other)


def test_a_token_costs_six_operations_a_weight_and_attention_and_a_third_more_where_blocks_are_recomputed() -> None:
    weights = PARAMETERS - 128_256 * 4096
    each = 6 * weights + 12 * 32 * 4096 * 4096
    kept, again = setting("model.activation_checkpointing=false"), setting()
    assert compute_s(kept) == pytest.approx(TOKENS * each / (8 * 989e12 * 0.4))
    assert compute_s(again) == pytest.approx(TOKENS * each * 8 / 6 / (8 * 989e12 * 0.4))


def test_frozen_weights_need_no_gradients_and_a_frozen_model_beside_it_a_forward_pass() -> None:
    whole, part, beside = setting(), setting(name="lora_llama3_8b"), setting(frozen=10**9)
    assert compute_s(part) == pytest.approx(
        TOKENS * (flops_per_token(part.shape, 4096, part.memory.trained_share) + flops_per_token(part.shape, 4096) / 3)
        / (8 * 989e12 * 0.4)
    )  # fmt: skip
    assert (compute_s(beside) or 0) - (compute_s(whole) or 0) == pytest.approx(TOKENS * 2e9 / (8 * 989e12 * 0.4))


@pytest.mark.parametrize(
    ("stage", "accumulation", "times"), [(1, 4, 2), (2, 1, 2), (2, 4, 5), (3, 1, 3), (3, 4, 12)], ids=str
)
def test_traffic_is_as_in_the_zero_paper(stage: int, accumulation: int, times: int) -> None:
    found = traffic_s(setting(f"zero=zero{stage}", accumulation=accumulation))
    assert found == pytest.approx(times * 2 * PARAMETERS * 7 / 8 / 300e9)
    between = traffic_s(setting(f"zero=zero{stage}", accumulation=accumulation, nodes=2))
    assert between == pytest.approx(times * 2 * PARAMETERS * 15 / 16 / 50e9)


def test_one_gpu_has_no_traffic() -> None:
    assert traffic_s(setting(ranks=1)) == 0


@pytest.mark.parametrize(
    ("words", "beside"), [([], True), (["zero.overlap_comm=false"], False), (["zero=zero0"], False)]
)
def test_a_step_is_the_longer_of_both_or_their_sum(words: list[str], beside: bool) -> None:
    made = setting(*words)
    computing, moving = compute_s(made), traffic_s(made)
    assert computing is not None
    assert overlapped(made.config) == beside
    assert step_s(made) == (max(computing, moving) if beside else computing + moving)


@pytest.mark.parametrize(
    ("overrides", "peak", "words"),
    [
        ([], 989e12, "for want of cluster.gpu_type"),
        (["cluster.gpu_type=a100"], 312e12, "cluster.gpu_type=a100"),
        (["cluster.gpu_type=a100", "cluster.peak_tflops=100"], 100e12, "cluster.peak_tflops"),
        (["cluster.gpu_type=abacus"], None, "cluster.gpu_type=abacus is not known; set cluster.peak_tflops"),
        (["cluster.accelerator=auto"], None, "set cluster.peak_tflops"),
        (["cluster.accelerator=cpu"], None, "set cluster.peak_tflops"),
        (["precision=fp32"], None, "set cluster.peak_tflops"),
        (["precision=fp32", "cluster.peak_tflops=60"], 60e12, "cluster.peak_tflops"),
    ],
    ids=str,
)
def test_the_peak_is_set_or_of_the_type_or_not_known(overrides: list[str], peak: float | None, words: str) -> None:
    made = setting(*overrides)
    assert rate(made.config).peak_flops == peak
    step = pace(made, None, None)
    assert words in step.how
    assert (step.step_s is None) == (peak is None)


def test_the_utilisation_is_the_share_of_the_peak_that_training_measures() -> None:
    made = setting("model.activation_checkpointing=false")
    seconds = compute_s(made)
    assert seconds is not None
    # Nothing is done twice, so it is all of what a GPU is taken to reach.
    assert utilisation(made, TOKENS / seconds) == pytest.approx(0.4)


@settings(deadline=None, max_examples=60)
@given(
    nodes=st.sampled_from([1, 2, 8, 64]),
    efficiency=st.floats(0.05, 1),
    link=st.floats(1, 900),
    accumulation=st.integers(1, 16),
    tokens=st.floats(1, 1e8),
    stage=st.integers(0, 3),
)
def test_a_step_is_never_shorter_than_its_work(
    nodes: int, efficiency: float, link: float, accumulation: int, tokens: float, stage: int
) -> None:
    made = setting(nodes=nodes, accumulation=accumulation, tokens=tokens)
    cluster = replace(made.config.cluster, efficiency=efficiency, interconnect_gb_s=link, gpu_link_gb_s=link)
    made = replace(made, config=replace(made.config, cluster=cluster, zero=replace(made.config.zero, stage=stage)))
    found = step_s(made)
    assert found is not None
    assert found >= (compute_s(made) or 0) > 0
    assert found >= traffic_s(made) > 0
    used = utilisation(made, tokens / found)
    assert used is not None
    assert used <= efficiency
