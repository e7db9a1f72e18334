"""What is refused of adapters and frozen weights before anything is queued."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from launcher.config.compose import compose, decode_config
from launcher.config.search import search_path
from launcher.config.validate import validate
from launcher.plain import plain
from tests.config.test_validate import demo_values


def where(adapter: dict[str, Any], **changes: Any) -> list[str]:
    """Keys at fault once these values are set; by default for the adapters of a pretrained model."""
    values = copy.deepcopy(demo_values())
    values["model"]["init"] = "pretrained"
    values["adapter"] |= {"kind": "lora", **adapter}
    for name, value in changes.items():
        group, _, key = name.partition("__")
        values[group][key] = value
    config = decode_config(values).config
    assert config is not None
    return [problem.where for problem in validate(config)]


@pytest.mark.parametrize(
    ("adapter", "changes", "expected"),
    [
        ({}, {}, []),
        ({"r": 0}, {}, ["adapter.r"]),
        ({"alpha": 0}, {}, ["adapter.alpha"]),
        ({"dropout": 1.0}, {}, ["adapter.dropout"]),
        ({"targets": []}, {}, ["adapter.targets"]),
        ({"dora": True}, {"zero__stage": 3}, ["adapter.dora"]),
        ({"dora": True}, {"zero__stage": 2}, []),
        ({"kind": "qlora"}, {"zero__stage": 3}, ["zero.stage"]),
        ({"kind": "qlora"}, {"zero__stage": 2}, []),
        ({}, {"model__init": "random"}, ["model.init"]),
        ({}, {"model__freeze": ["embed"]}, ["model.freeze"]),
        ({"kind": "full", "r": 0, "dora": True}, {"zero__stage": 3}, []),
        ({"kind": "full"}, {"model__freeze": ["embed", "("]}, ["model.freeze[1]"]),
        ({"kind": "full"}, {"model__freeze": ["embed"], "model__init": "random"}, ["model.init"]),
    ],
)
def test_each_rule_names_its_key(adapter: dict[str, Any], changes: dict[str, Any], expected: list[str]) -> None:
    assert where(adapter, **changes) == expected


def test_patterns_reach_the_config_as_they_were_typed() -> None:
    typed = ["model.init=pretrained", 'model.freeze=[embed_tokens,"layers\\.[0-9]\\."]', "adapter.targets=[q_proj]"]
    config = compose("demo", typed, search_path(None, Path("/nowhere"))).config
    assert config is not None
    assert config.model.freeze == ["embed_tokens", r"layers\.[0-9]\."]
    assert plain(config.adapter)["targets"] == ["q_proj"]
