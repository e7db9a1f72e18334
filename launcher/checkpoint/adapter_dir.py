"""A checkpoint's adapters as the directory that peft loads on top of the base."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from launcher.config.schema import Config
from launcher.models.adapters import NAME, peft_config
from launcher.models.targets import adapted_layers, shortened, trained_beside

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft's own model puts before every name."""


def write_adapter(
    out: Path, trained: Mapping[str, Any], config: Config, skeleton: Any, dtype: torch.dtype, *, task: str
) -> None:
    """adapter_config.json and adapter_model.safetensors in `out`; `skeleton` is the model without adapters."""
    also = [*config.adapter.train_also, *trained_beside(skeleton)]
    layers = adapted_layers(skeleton, config.adapter)
    described = peft_config(config.adapter, shortened(layers, skeleton), task, also)
    described.base_model_name_or_path = config.model.path
    described.revision = config.model.revision
    described.inference_mode = True
    described.save_pretrained(out)
    tied = set(getattr(skeleton, "all_tied_weights_keys", None) or ())
    buffers = {name for name, _ in skeleton.named_buffers()}
    state = {
        saved_name(name): weight.contiguous().to(dtype)
        for name, weight in trained.items()
        if name not in tied and name not in buffers
    }
    save_file(state, out / WEIGHTS, metadata={"format": "pt"})
    with (out / WEIGHTS).open("rb") as file:
        os.fsync(file.fileno())


def saved_name(name: str) -> str:
    """A trained weight's name in peft's file, which knows neither adapters' names nor how DoRA's are kept."""
    name = name.replace(f".lora_magnitude_vector.{NAME}.weight", ".lora_magnitude_vector")
    return PREFIX + name.replace(f".{NAME}.", ".")
