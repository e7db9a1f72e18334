"""The numbers of an architecture are found where huggingface_hub keeps them, without asking it in vain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.config.schema import ShapeConfig
from launcher.models.shape import local_config, shape_of

CONFIG = {
    "model_type": "qwen3",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 99,
}
BOTH = "from huggingface_hub.constants import HF_HUB_CACHE; from launcher.models.shape import _hub_cache; "
BOTH += "print(HF_HUB_CACHE == str(_hub_cache()))"


@pytest.mark.parametrize(
    "variables",
    [{}, {"HF_HOME": "/x/home"}, {"HF_HUB_CACHE": "~/y"}, {"XDG_CACHE_HOME": "/z"}, {"HUGGINGFACE_HUB_CACHE": "/q"}],
    ids=str,
)
def test_the_cache_is_where_the_library_has_it(variables: dict[str, str]) -> None:
    names = ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in names} | variables
    answer = subprocess.run([sys.executable, "-c", BOTH], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "True"


def test_a_model_of_the_hub_is_found_in_the_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert local_config("org/never-fetched", None) is None


def test_what_a_config_leaves_out_has_its_usual_meaning() -> None:
    assert shape_of(CONFIG) == ShapeConfig(
        model_type="qwen3",
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=16,
        intermediate_size=128,
        vocab_size=99,
        tie_word_embeddings=False,
        experts=None,
    )
    assert shape_of({"text_config": CONFIG, "model_type": "gemma3"}) == shape_of(json.loads(json.dumps(CONFIG)))
