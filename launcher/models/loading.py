"""A causal language model on this rank: pretrained or random, whole or, under ZeRO-3, partitioned as it is built."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.integrations import HfDeepSpeedConfig

from launcher.config.schema import Dtype, Init, ModelConfig
from launcher.errors import Problem, UserError
from launcher.models.dtypes import TORCH_DTYPES
from launcher.seeds import derive


def build_model(
    folder: Path, model: ModelConfig, dtype: Dtype, seed: int, deepspeed: dict[str, Any], device: torch.device
) -> PreTrainedModel:
    """The model whose files are in `folder`, in compute precision and training mode; collective under ZeRO-3.

    Raises UserError when there is no such model or it is no causal language model.
    """
    zero3 = deepspeed["zero_optimization"]["stage"] == 3
    # transformers partitions while it builds as long as this object lives; without it every rank loads everything.
    partitioned = HfDeepSpeedConfig(deepspeed) if zero3 else None
    arguments = {"dtype": TORCH_DTYPES[dtype], "attn_implementation": model.attention.value}
    try:
        if model.init is Init.pretrained:
            built = AutoModelForCausalLM.from_pretrained(folder, **arguments)
        else:
            config = AutoConfig.from_pretrained(folder)
            # Under ZeRO-3 partitions are born on the device; the others too, so that all draw from one generator.
            with contextlib.nullcontext() if zero3 else device:
                built = AutoModelForCausalLM.from_config(config, **arguments)
            initialise(built, seed)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            Problem(where="model", message=f"{folder} cannot be loaded: {error}", remedy="check model.path")
        ) from error
    finally:
        del partitioned
    if model.activation_checkpointing:
        built.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    built.train()
    return built


def initialise(model: PreTrainedModel, seed: int) -> None:
    """Random weights as a function of (seed, module name): the same at every world size and ZeRO stage; collective."""
    import deepspeed

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name, module in model.named_modules():
            parameters = list(module.parameters(recurse=False))
            if not parameters:
                continue
            for parameter in parameters:
                # transformers' init functions skip what carries this mark.
                parameter._is_hf_initialized = False
            with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0):
                torch.manual_seed(derive(seed, name))
                model._init_weights(module)
            for parameter in parameters:
                parameter._is_hf_initialized = True
    model.tie_weights()
