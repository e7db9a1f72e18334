"""Models that would let packed rows see each other are refused before they train."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    LlamaConfig,
    MambaConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from launcher.errors import UserError
from launcher.train.apart import refuse_leak_all

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 64,
}
CPU = torch.device("cpu")


def built(config: PreTrainedConfig, **arguments: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **arguments)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "config", [LlamaConfig(**SIZES), MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=4)]
)
def test_a_model_that_keeps_rows_apart_is_let_through(
    config: PreTrainedConfig, kernel: str, dtype: torch.dtype
) -> None:
    model = built(config, attn_implementation=kernel, dtype=dtype)
    refuse_leak_all(model, CPU)
    assert model.training


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=64),
        MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=64),
    ],
)
def test_a_model_that_takes_no_notice_of_positions_is_refused_with_what_to_set(config: PreTrainedConfig) -> None:
    with pytest.raises(UserError, match=r"data\.packing=false"):
        refuse_leak_all(built(config), CPU)
