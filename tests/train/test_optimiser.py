"""Which parameters decay, and at which share of the rate they are trained."""

from __future__ import annotations

import dataclasses

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from launcher.config.schema import GroupConfig, OptimConfig
from launcher.errors import UserError
from launcher.train.optimiser import parameter_groups
from tests.workbench import Bench, held_out, losses

ADAMW = OptimConfig(
    name="adamw",
    lr=1e-3,
    weight_decay=0.1,
    betas=[0.9, 0.95],
    momentum=0.95,
    eps=1e-8,
    pull_to_start=0.0,
    ema_decay=None,
    grad_clip=1.0,
    layer_decay=None,
    groups=[],
)


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    shape = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=3, num_attention_heads=2, vocab_size=16)
    built: PreTrainedModel = AutoModelForCausalLM.from_config(shape)
    return built


def shares(model: PreTrainedModel, optim: OptimConfig) -> dict[str, tuple[float, float]]:
    """Decay and share of the rate, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["weight_decay"], group["lr_scale"])
        for group in parameter_groups(model, optim)
        for parameter in group["params"]
    }


def test_matrices_decay_and_norms_do_not(model: PreTrainedModel) -> None:
    found = shares(model, ADAMW)
    assert len(found) == len(list(model.named_parameters()))
    assert found["model.embed_tokens.weight"] == found["model.layers.1.mlp.up_proj.weight"] == (0.1, 1.0)
    assert found["model.norm.weight"] == found["model.layers.0.input_layernorm.weight"] == (0.0, 1.0)


def test_each_layer_is_trained_at_a_share_of_the_one_above(model: PreTrainedModel) -> None:
    found = shares(model, dataclasses.replace(ADAMW, layer_decay=0.5))
    weights = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(3)]
    assert [found[name][1] for name in weights] == [0.125, 0.25, 0.5]
    assert found["lm_head.weight"][1] == 1.0
    assert found["model.norm.weight"][1] == 1.0
    assert found["model.embed_tokens.weight"][1] == 0.0625


def test_names_choose_shares_and_decay(model: PreTrainedModel) -> None:
    groups = [
        GroupConfig(match="layers.0", lr_scale=0.0, weight_decay=None),
        GroupConfig(match="norm", lr_scale=0.5, weight_decay=0.3),
    ]
    found = shares(model, dataclasses.replace(ADAMW, groups=groups))
    assert found["model.layers.0.mlp.up_proj.weight"] == (0.1, 0.0)
    assert found["model.layers.0.input_layernorm.weight"] == (0.3, 0.0)
    assert found["model.norm.weight"] == (0.3, 0.5)
    assert found["lm_head.weight"] == (0.1, 1.0)


def test_a_pattern_that_matches_nothing_is_a_mistake(model: PreTrainedModel) -> None:
    groups = [GroupConfig(match="adapter", lr_scale=0.1, weight_decay=None)]
    with pytest.raises(UserError, match=r"optim\.groups\[0\]\.match.*lm_head|embed_tokens"):
        parameter_groups(model, dataclasses.replace(ADAMW, groups=groups))


@pytest.mark.train
def test_shares_of_the_rate_are_those_of_the_steps_and_survive_a_resume(bench: Bench) -> None:
    group = "optim.groups=[{match:lm_head,lr_scale:2,weight_decay:0}]"
    overrides = ["zero=zero3", "optim.layer_decay=0.7", group]
    straight = bench.train(*overrides)
    stopped = bench.train(*overrides, "train.stop_at=3")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)
    still = bench.train("zero=zero2", "optim.groups=[{match:.,lr_scale:0,weight_decay:null}]", "train.max_steps=3")
    assert len(set(held_out(still).values())) == 1
