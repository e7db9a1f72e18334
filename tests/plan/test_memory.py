from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from benchmarks import published
from benchmarks.memory import grid, predicted
from launcher.config.compose import compose
from launcher.config.schema import Config, ShapeConfig
from launcher.config.search import search_path
from launcher.plan.memory import GIB, fits, plan_memory

ROOT = Path(__file__).parents[2]
PUBLISHED = {
    "sft_gemma2_9b": 9_241_705_984,
    "sft_qwen3_14b": 14_768_307_200,
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


@pytest.mark.parametrize(("stage", "per_parameter"), [(0, 16.0), (1, 6 + 12 / 8), (2, 2 + 16 / 8), (3, 18 / 8)])
def test_model_states_shrink_with_the_stage_as_in_the_zero_paper(stage: int, per_parameter: float) -> None:
    # The paper counts 2 bytes for a gradient; but at stage 0 they are summed in fp32, which makes it 4.
    memory = plan_memory(*recipe("sft_llama3_8b", f"zero=zero{stage}"), ranks=8, micro_batch=4, accumulation=2)
    assert memory.states_gb * GIB == pytest.approx(per_parameter * memory.parameters)


def test_stage_2_has_no_gradients_while_the_only_loss_of_a_step_is_there() -> None:
    one, two = (
        plan_memory(*recipe("sft_llama3_8b", "zero=zero2"), ranks=8, micro_batch=8, accumulation=number)
        for number in (1, 2)
    )
    assert one.when == two.when == "the loss goes backwards"
    assert (two.states_gb - one.states_gb) * GIB == pytest.approx(4 / 8 * one.parameters)


def test_the_estimates_are_what_a_gpu_was_seen_to_hold() -> None:
    kept = json.loads((ROOT / "benchmarks" / "measured" / "memory_h200.json").read_text())
    settings = {setting.name: setting for setting in grid()}
    errors = {row["setting"]: predicted(settings[row["setting"]]) / row["peak_gib"] - 1 for row in kept}
    assert len(errors) >= 20
    assert max(abs(error) for error in errors.values()) < 0.07, errors
    assert median(abs(error) for error in errors.values()) < 0.02


def test_offloading_takes_states_off_the_gpu() -> None:
    memory = plan_memory(*recipe("sft_llama3_8b", "zero=zero3_offload"), ranks=8, micro_batch=1)
    assert memory.states_gb == 0


def test_lion_keeps_one_state_where_adamw_keeps_two() -> None:
    adamw, lion = (plan_memory(*recipe("sft_llama3_8b", f"optim={name}"), ranks=8, micro_batch=1) for name in NAMES)
    assert (adamw.states_gb - lion.states_gb) * GIB == pytest.approx(4 / 8 * adamw.parameters)


def test_muon_keeps_one_state_of_hidden_matrices_and_two_of_the_rest() -> None:
    adamw, muon = (
        plan_memory(*recipe("sft_llama3_8b", f"optim={name}"), ranks=8, micro_batch=1) for name in ("adamw", "muon")
    )
    ends, norms = 2 * 128256 * 4096, 65 * 4096
    assert (adamw.states_gb - muon.states_gb) * GIB == pytest.approx(4 / 8 * (adamw.parameters - ends - norms))


@pytest.mark.parametrize(("name", "saved"), [("adafactor", 8.0), ("adam8bit", 8 - 2 - 8 / 256)])
def test_small_states_are_counted_as_small(name: str, saved: float) -> None:
    adamw, small = (
        plan_memory(*recipe("sft_llama3_8b", f"optim={one}"), ranks=8, micro_batch=1) for one in ("adamw", name)
    )
    assert (adamw.states_gb - small.states_gb) * GIB == pytest.approx(saved / 8 * adamw.parameters)


def test_an_average_of_the_weights_is_one_state_more() -> None:
    plain, kept = (
        plan_memory(*recipe("sft_llama3_8b", f"optim.ema_decay={decay}"), ranks=8, micro_batch=1)
        for decay in ("null", "0.999")
    )
    assert (kept.states_gb - plain.states_gb) * GIB == pytest.approx(4 / 8 * plain.parameters)


def test_activations_grow_with_the_micro_batch_and_shrink_when_recomputed() -> None:
    config, shape = recipe("sft_llama3_8b")
    one, two = (plan_memory(config, shape, ranks=8, micro_batch=size).activations_gb for size in (1, 2))
    assert two == pytest.approx(2 * one)
    kept = replace(config, model=replace(config.model, activation_checkpointing=False))
    assert plan_memory(kept, shape, ranks=8, micro_batch=1).activations_gb > 2 * one


def test_the_counting_agrees_with_what_others_published() -> None:
    errors = [abs(published.predicted(run) / run.peak_gib - 1) for run in published.published()]
    assert len(errors) >= 15
    assert median(errors) < 0.1
    assert max(errors) < 0.25


def test_a_teachers_logits_are_there_with_the_models_own() -> None:
    alone, judged = (
        plan_memory(*recipe("sft_llama3_8b", *more), ranks=8, micro_batch=4)
        for more in ((), ("objective.options.kl=1",))
    )
    assert (judged.activations_gb - alone.activations_gb) * GIB == pytest.approx(4 * 4096 * 128256 * (2 + 4))


def test_a_plan_that_fills_the_gpu_to_the_brim_does_not_fit() -> None:
    memory = plan_memory(*recipe("sft_llama3_8b"), ranks=8, micro_batch=1)
    assert fits(memory)
    assert not fits(replace(memory, available_gb=memory.total_gb))


def test_answers_to_held_out_rows_take_their_keys_and_values() -> None:
    asked = "evaluate.answers.metrics=[rouge]", "evaluate.answers.at_once=256"
    few, many = (plan_memory(*recipe("sft_llama3_8b", *words), ranks=8, micro_batch=1) for words in ((), asked))
    assert many.when == "held-out rows are answered"
    # 2 bytes of keys and values each, of 8 heads of 128 in 32 layers, and 48 bytes a word for its logits.
    tokens = recipe("sft_llama3_8b")[0].data.seq_len
    assert many.activations_gb * GIB == 256 * (tokens * 2 * 2 * 8 * 128 * 32 + 128256 * 48)
    assert many.total_gb > few.total_gb
