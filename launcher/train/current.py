"""The weights of the model in training as they are now, whole and by the names of its files, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import deepspeed
import torch
from torch import Tensor

from launcher.checkpoint.merge import WEIGHT, adapter_parts, merged
from launcher.config.adapter import AdapterConfig
from launcher.models.adapters import file_name


def weights_now_all(engine: Any, adapter: AdapterConfig) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of every weight, in compute precision, adapters merged in; collective at ZeRO-3.

    A tensor is whole only until the next is asked for, and one that two layers share comes once.
    """
    named = dict(engine.module.named_parameters())
    adapters = adapter_parts(named)
    whole = engine.zero_optimization_stage() == 3
    for name, parameter in named.items():
        if ".lora_" in name:
            continue
        own = file_name(name)
        parts = adapters.get(own.removesuffix(WEIGHT), {}) if own.endswith(WEIGHT) else {}
        with deepspeed.zero.GatheredParameters([parameter, *parts.values()]) if whole else nullcontext():
            yield own, _as_computed(parameter.data, {key: part.data for key, part in parts.items()}, adapter)


def _as_computed(weight: Tensor, parts: dict[str, Tensor], adapter: AdapterConfig) -> Tensor:
    if not parts:
        return weight
    with torch.no_grad():
        in_fp32 = {name: part.float() for name, part in parts.items()}
        return merged(weight.float(), in_fp32, adapter.scaling).to(weight.dtype)
