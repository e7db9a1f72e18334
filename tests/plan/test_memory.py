from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.config.compose import compose
from launcher.config.schema import Config, ShapeConfig
from launcher.config.search import search_path
from launcher.plan.memory import GIB, fits, plan_memory

PUBLISHED = {
    "sft_llama3_8b": 8_030_261_248,
    "sft_mistral_7b": 7_248_023_552,
    "sft_llama3_70b": 70_553_706_496,
}
"""Parameters as the models' cards count them."""

NAMES = ("adamw", "lion")


def recipe(name: str, *overrides: str) -> tuple[Config, ShapeConfig]:
    config = compose(name, overrides, search_path(None, Path("/nowhere"))).config
    assert config is not None
    assert config.model.shape is not None
    return config, config.model.shape


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_parameters_are_counted_as_published(name: str, parameters: int) -> None:
    assert plan_memory(*recipe(name), ranks=8, micro_batch=1).parameters == parameters


@pytest.mark.parametrize(("stage", "per_parameter"), [(0, 18.0), (1, 6 + 12 / 8), (2, 2 + 16 / 8), (3, 18 / 8)])
def test_model_states_shrink_with_the_stage_as_in_the_zero_paper(stage: int, per_parameter: float) -> None:
    # The paper counts 2 bytes for a gradient; here they are summed in fp32, which makes it 4.
    memory = plan_memory(*recipe("sft_llama3_8b", f"zero=zero{stage}"), ranks=8, micro_batch=1)
    assert memory.states_gb * GIB == pytest.approx(per_parameter * memory.parameters)


def test_offloading_takes_states_off_the_gpu() -> None:
    memory = plan_memory(*recipe("sft_llama3_8b", "zero=zero3_offload"), ranks=8, micro_batch=1)
    assert memory.states_gb == 0


def test_lion_keeps_one_state_where_adamw_keeps_two() -> None:
    adamw, lion = (plan_memory(*recipe("sft_llama3_8b", f"optim={name}"), ranks=8, micro_batch=1) for name in NAMES)
    assert (adamw.states_gb - lion.states_gb) * GIB == pytest.approx(4 / 8 * adamw.parameters)


def test_activations_grow_with_the_micro_batch_and_shrink_when_recomputed() -> None:
    config, shape = recipe("sft_llama3_8b")
    one, two = (plan_memory(config, shape, ranks=8, micro_batch=size).activations_gb for size in (1, 2))
    assert two == pytest.approx(2 * one)
    kept = replace(config, model=replace(config.model, activation_checkpointing=False))
    assert plan_memory(kept, shape, ranks=8, micro_batch=1).activations_gb > 2 * one


def test_a_plan_that_fills_the_gpu_to_the_brim_does_not_fit() -> None:
    memory = plan_memory(*recipe("sft_llama3_8b"), ranks=8, micro_batch=1)
    assert fits(memory)
    assert not fits(replace(memory, available_gb=memory.total_gb))
