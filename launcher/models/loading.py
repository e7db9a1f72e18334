"""A model on this rank: pretrained or random, whole or, under ZeRO-3, partitioned as it is built."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel
from transformers.integrations import HfDeepSpeedConfig
from transformers.modeling_outputs import TokenClassifierOutput

from launcher.config.adapter import AdapterConfig
from launcher.config.schema import Dtype, Init, ModelConfig
from launcher.errors import Problem, UserError
from launcher.models.adapters import choose_trained
from launcher.models.dtypes import TORCH_DTYPES
from launcher.models.heap import give_back
from launcher.models.quantised import quantised_loading
from launcher.objectives.protocol import Head
from launcher.seeds import derive


def build_model(
    folder: Path,
    model: ModelConfig,
    adapter: AdapterConfig,
    dtype: Dtype,
    seed: int,
    deepspeed: dict[str, Any],
    device: torch.device,
    head: Head | None = None,
) -> PreTrainedModel:
    """The model whose files are in `folder`, in compute precision and training mode; collective under ZeRO-3.

    With a `head`, its outputs for every token stand in place of the language model's; with an `adapter`, that is put
    in place. Raises UserError when there is no such model, it is no causal language model, none that transformers has
    a head for, or has nothing of the names that shall be adapted or frozen.
    """
    new: set[str] = set()
    zero3 = deepspeed["zero_optimization"]["stage"] == 3
    # transformers partitions while it builds as long as this object lives; without it every rank loads everything.
    partitioned = HfDeepSpeedConfig(deepspeed) if zero3 else None
    arguments: dict[str, Any] = {"dtype": TORCH_DTYPES[dtype], "attn_implementation": model.attention.value}
    kind = AutoModelForCausalLM if head is None else AutoModelForSequenceClassification
    try:
        config = with_head(AutoConfig.from_pretrained(folder), head)
        if model.init is Init.pretrained:
            arguments |= quantised_loading(adapter, TORCH_DTYPES[dtype], device)
            built, told = kind.from_pretrained(folder, config=config, output_loading_info=True, **arguments)
            if head is not None:
                new = set(told["missing_keys"])
                initialise(built, seed, only=new)
        else:
            # Under ZeRO-3 partitions are born on the device; the others too, so that all draw from one generator.
            with contextlib.nullcontext() if zero3 else device:
                built = kind.from_config(config, **arguments)
            initialise(built, seed)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            Problem(where="model", message=f"{folder} cannot be loaded: {error}", remedy="check model.path")
        ) from error
    finally:
        del partitioned
    if model.activation_checkpointing:
        built.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    choose_trained(built, model, adapter, seed, TORCH_DTYPES[dtype], new)
    if head is not None:
        # Its own picks one token of each sequence, and a sequence may hold several rows.
        built.forward = types.MethodType(_every_token, built)
    built.train()
    give_back()
    return built


def with_head(config: Any, head: Head | None) -> Any:
    """The model's config, which a head's outputs and their names are written into."""
    if head is None:
        return config
    config.num_labels = head.outputs
    config.problem_type = head.problem_type
    if head.labels:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: number for number, label in enumerate(head.labels)}
    return config


def _every_token(model: Any, **inputs: Any) -> TokenClassifierOutput:
    """Forward pass of a sequence classifier up to its head's outputs for every token."""
    hidden = getattr(model, model.base_model_prefix)(**inputs).last_hidden_state
    return TokenClassifierOutput(logits=model.score(hidden))


def initialise(model: PreTrainedModel, seed: int, only: Collection[str] | None = None) -> None:
    """Random weights as a function of (seed, module name): the same at every world size and ZeRO stage; collective.

    With `only`, of the modules that these parameters belong to.
    """
    import deepspeed

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for name, module in model.named_modules():
            parameters = list(module.parameters(recurse=False))
            own = {f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)}
            if not parameters or (only is not None and not own.intersection(only)):
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
