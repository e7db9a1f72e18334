"""Weights that leave training whole: by the names of the model's files, adapters merged in as an export merges them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from launcher.models.adapters import choose_trained
from launcher.train.current import weights_now_all
from tests.models.test_adapters import FULL, LORA, MODEL, tiny


def engine_of(model: Any) -> Any:
    return SimpleNamespace(module=model, zero_optimization_stage=lambda: 2)


def test_a_whole_models_weights_are_its_own_and_what_two_layers_share_comes_once() -> None:
    model = tiny(tied=True)
    found = dict(weights_now_all(engine_of(model), FULL))
    own = model.state_dict()
    assert set(own) - set(found) == {"lm_head.weight"}
    assert all(found[name] is own[name] or torch.equal(found[name], own[name]) for name in found)


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_are_merged_as_peft_merges_them(dora: bool) -> None:
    adapter = replace(LORA, dora=dora)
    plain = tiny()
    names = set(plain.state_dict())
    choose_trained(plain, MODEL, adapter, 1, torch.float32, set())
    for name, parameter in plain.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    found = dict(weights_now_all(engine_of(plain), adapter))
    assert set(found) == names
    merged = {name: layer for name, layer in plain.named_modules() if hasattr(layer, "merge")}
    assert merged
    for name, layer in merged.items():
        layer.merge()
        expected = layer.base_layer.weight
        assert torch.allclose(found[f"{name}.weight"], expected, atol=1e-6)
    untouched = plain.get_parameter("model.embed_tokens.weight")
    assert torch.equal(found["model.embed_tokens.weight"], untouched)
