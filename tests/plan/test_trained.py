"""What is trained, counted from a model's shape, against counts that were published or written out."""

from __future__ import annotations

import pytest

from launcher.plan.lead import checkpoint_bytes
from launcher.plan.memory import GIB, plan_memory
from launcher.plan.trained import parts
from tests.plan.test_memory import recipe

BLOCK_8B = 4096 * (4096 + 1024 + 1024 + 4096) + 3 * 4096 * 14336
"""Parameters of the linear layers in one block of Llama 3 8B."""


def test_everything_is_trained_where_nothing_is_said() -> None:
    counted = parts(*recipe("sft_llama3_8b"))
    assert counted.trained == counted.own == counted.whole == 8_030_261_248


@pytest.mark.parametrize(
    ("overrides", "adapters", "own"),
    [
        # Hu et al. count r · (rows + columns); peft prints 41,943,040 of this model at r=16.
        ([], 41_943_040, 0),
        (["adapter.r=8", "adapter.targets=[q_proj,v_proj]"], 32 * 8 * (4096 + 4096 + 4096 + 1024), 0),
        (["adapter.targets=[o_proj]", "adapter.dora=true", "zero=zero2"], 32 * (16 * 2 * 4096 + 4096), 0),
        (["adapter.targets=[lm_head]"], 16 * (4096 + 128256), 0),
        (["adapter.train_also=[lm_head,norm]"], 41_943_040, 128256 * 4096 + 4096),
        # Of another family's names nothing is known: as if all had adapters.
        (["adapter.targets=[c_attn]"], 41_943_040, 0),
    ],
)
def test_adapters_and_what_is_trained_beside_them_are_counted(overrides: list[str], adapters: int, own: int) -> None:
    counted = parts(*recipe("lora_llama3_8b", *overrides))
    assert (counted.adapters, counted.own, counted.whole) == (adapters, own, 8_030_261_248)


def test_patterns_leave_the_rest() -> None:
    counted = parts(*recipe("sft_llama3_8b", 'model.freeze=["embed_tokens","layers\\.[0-9]\\."]'))
    assert counted.own == 8_030_261_248 - 128256 * 4096 - 10 * (BLOCK_8B + 2 * 4096)


def test_a_frozen_base_costs_its_weights_only() -> None:
    memory = plan_memory(*recipe("lora_llama3_8b"), ranks=8, micro_batch=1)
    trained = 41_943_040
    assert memory.states_gb * GIB == pytest.approx((2 * (8_030_261_248 + trained) + 16 * trained) / 8)
    config, _ = recipe("lora_llama3_8b")
    assert checkpoint_bytes(config, memory) == 14 * trained


def test_linear_layers_take_half_a_byte_in_4_bits_and_the_rest_two() -> None:
    config, shape = recipe("qlora_llama3_70b")
    counted = parts(config, shape)
    embeddings = 2 * 128256 * 8192 + 8192 + 80 * 2 * 8192
    assert counted.whole - counted.quantised == embeddings
    # 0.127 bits a parameter for scales that are quantised too, as the paper says.
    base = counted.quantised * (4 + 0.127) / 8 + 2 * embeddings
    trained = counted.adapters
    memory = plan_memory(config, shape, ranks=8, micro_batch=1, accumulation=2)
    assert memory.states_gb * GIB == pytest.approx(base + 2 * trained + 16 / 8 * trained, rel=1e-4)
