"""A base held in 4-bit NormalFloat: how transformers is asked for it."""

from __future__ import annotations

from typing import Any

import torch

from launcher.config.adapter import AdapterConfig, AdapterKind
from launcher.errors import Problem, UserError

HEADS = ("lm_head", "embed_out", "score")
"""Layers that stay as they are: what they lose in 4 bits, every token loses."""


def quantised_loading(adapter: AdapterConfig, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Arguments of `from_pretrained`; empty where nothing is quantised. UserError without bitsandbytes."""
    if adapter.kind is not AdapterKind.qlora:
        return {}
    from transformers import BitsAndBytesConfig
    from transformers.utils import is_bitsandbytes_available

    if not is_bitsandbytes_available():
        raise UserError(
            Problem(where="adapter", message="bitsandbytes is not installed", remedy="pip install zero-launcher[qlora]")
        )
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=adapter.double_quant,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[*HEADS, *adapter.train_also],
    )
    # It is quantised where it will be used: a rank never holds more of it in 16 bits than one tensor.
    return {"quantization_config": quantisation, "device_map": {"": device}}
