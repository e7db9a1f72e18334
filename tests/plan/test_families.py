"""Parameters of every family are counted as transformers builds them, of experts too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from launcher.cli.page import page
from launcher.config.schema import ModelConfig, ShapeConfig
from launcher.errors import Problem, UserError
from launcher.models.shape import active_count, flops_per_token, model_shape, parameter_count, shape_of, weights
from launcher.plan.activations import block_bytes, mixture_bytes
from launcher.plan.build import Request, plan_request
from launcher.plan.trained import parts
from tests.plan.test_memory import recipe


def sizes(width: int, layers: int, heads: int, groups: int, wide: int, words: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": wide,
        "vocab_size": words,
        "pad_token_id": 0,
        **more,
    }


MIXTURES = {
    "Mixtral 8x7B": sizes(
        4096, 32, 32, 8, 14336, 32000, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2
    ),
    "Qwen3 30B A3B": sizes(2048, 48, 32, 4, 6144, 151936, model_type="qwen3_moe", head_dim=128, num_experts=128)
    | {"num_experts_per_tok": 8, "moe_intermediate_size": 768, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "Qwen1.5 MoE A2.7B": sizes(2048, 24, 16, 16, 5632, 151936, model_type="qwen2_moe", num_experts=60)
    | {"num_experts_per_tok": 4, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
    "OLMoE 1B 7B": sizes(2048, 16, 16, 16, 1024, 50304, model_type="olmoe", num_experts=64, num_experts_per_tok=8),
    "every second block": sizes(64, 5, 4, 2, 96, 300, model_type="qwen3_moe", head_dim=32, num_experts=6)
    | {"num_experts_per_tok": 2, "moe_intermediate_size": 48, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
}
DENSE = {
    "Llama 3.2 1B": sizes(2048, 16, 32, 8, 8192, 128256, model_type="llama", tie_word_embeddings=True),
    "Mistral 7B": sizes(4096, 32, 32, 8, 14336, 32768, model_type="mistral"),
    "Qwen2.5 7B": sizes(3584, 28, 28, 4, 18944, 152064, model_type="qwen2", tie_word_embeddings=False),
    "Qwen3 0.6B": sizes(1024, 28, 16, 8, 3072, 151936, model_type="qwen3", head_dim=128, tie_word_embeddings=True),
    "Phi 3 mini": sizes(3072, 32, 32, 32, 8192, 32064, model_type="phi3"),
    "Phi 4": sizes(5120, 40, 40, 10, 17920, 100352, model_type="phi3"),
    # As their own config.json has it: nothing of tied embeddings, which are the family's default.
    "Gemma 2B": sizes(2048, 18, 8, 1, 16384, 256000, model_type="gemma", head_dim=256),
    "Gemma 2 9B": sizes(3584, 42, 16, 8, 14336, 256000, model_type="gemma2", head_dim=256),
    "Gemma 3 1B": sizes(1152, 26, 4, 1, 6912, 262144, model_type="gemma3_text", head_dim=256),
}
PUBLISHED = {
    "Mixtral 8x7B": (46_702_792_704, 12_879_925_248),
    "Qwen3 30B A3B": (30_532_122_624, 3_353_032_704),
}
"""All parameters, and those that a token goes through. Their makers say 46.7 and 12.9, 30.5 and 3.3 billion."""


@pytest.mark.parametrize("name", [*MIXTURES, *DENSE])
def test_every_weight_is_counted_as_transformers_builds_it(name: str) -> None:
    document = {**MIXTURES, **DENSE}[name]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**document))
    shape = shape_of(document)
    assert {name: tuple(weight.shape) for name, weight in model.named_parameters()} == dict(weights(shape))
    assert parameter_count(shape) == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_token_goes_through_is_what_makers_say(name: str) -> None:
    shape = shape_of(MIXTURES[name])
    assert (parameter_count(shape), active_count(shape)) == PUBLISHED[name]
    idle = parameter_count(shape) - active_count(shape)
    dense = flops_per_token(shape, 0) + 6 * idle
    assert dense == 6 * (parameter_count(shape) - shape.vocab_size * shape.hidden_size)


def test_a_mixture_keeps_for_every_expert_of_a_token(shape: ShapeConfig) -> None:
    config, _ = recipe("sft_llama3_8b")
    apart = block_bytes(config, shape, 2, frozen=False, mixes=True) - block_bytes(config, shape, 2, frozen=False)
    assert mixture_bytes(shape, 2) == 2 * 2 * (2 * 4096 + 4 * 14336) + 4 * 8
    assert apart == mixture_bytes(shape, 2) - 4 * 2 * 14336


def test_adapters_stand_on_linear_layers_only(shape: ShapeConfig) -> None:
    config, _ = recipe("lora_llama3_8b")
    counted = parts(config, shape)
    # The router and the experts, which are one tensor in transformers, are none.
    assert counted.adapters == 32 * 16 * (4096 + 4096 + 2 * (4096 + 1024) + 4096 + 4096)


@pytest.fixture
def shape() -> ShapeConfig:
    return shape_of(MIXTURES["Mixtral 8x7B"])


@pytest.mark.parametrize(("override", "where"), [("adapter=lora", "adapter"), ("model.freeze=[embed]", "model.freeze")])
def test_a_mixture_is_trained_as_a_whole(work: Path, override: str, where: str) -> None:
    folder = work / "mixture"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MIXTURES["Mixtral 8x7B"]))
    overrides = [f"model.path={folder}", override]
    with pytest.raises(UserError) as caught:
        plan_request(Request(recipe="sft_llama3_8b", overrides=overrides, config_dir=None, work_dir=work))
    (found,) = [problem for problem in caught.value.problems if "as a whole only" in problem.message]
    assert found.where == where


def test_the_page_tells_what_a_token_goes_through(demo: Path, work: Path) -> None:
    config = json.loads((demo / "model" / "config.json").read_text())
    small = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    (demo / "model" / "config.json").write_text(json.dumps(config | small))
    shape = shape_of(config | small)
    plan = plan_request(Request(recipe="demo", overrides=[], config_dir=None, work_dir=work))
    told = f"{parameter_count(shape):,} parameters, of which a token goes through {active_count(shape):,}, random"
    assert told in page(plan)


def test_experts_of_another_family_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(sizes(64, 2, 4, 4, 96, 300, model_type="dbrx", num_experts=4)))
    found = model_shape(_model(tmp_path))
    assert isinstance(found, Problem)
    assert "dbrx has experts that are not known here; those of mixtral, qwen3_moe" in found.message


def _model(path: Path) -> ModelConfig:
    config, _ = recipe("sft_llama3_8b", f"model.path={path}")
    return config.model
