"""What of a model is trained: adapters put in place by peft, or what `model.freeze` leaves.

The layers keep their names (`…q_proj.base_layer.weight` beside `…q_proj.lora_A.default.weight`), and the model stays
transformers' own: nothing that trains, saves or evaluates it needs to know of adapters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

import torch

from launcher.config.adapter import AdapterConfig, AdapterKind, lies_in
from launcher.config.schema import ModelConfig
from launcher.errors import Problem, UserError, closest_first
from launcher.models.targets import adapted_layers, trained_beside
from launcher.seeds import derive

NAME = "default"
"""peft's name for the only adapter."""


def choose_trained(
    model: Any, config: ModelConfig, adapter: AdapterConfig, seed: int, dtype: torch.dtype, new: Collection[str]
) -> None:
    """Freeze what stays and put adapters where they go. `new` names weights that came from no file.

    The same on every rank and at every ZeRO stage, and no collective. UserError where a name or pattern fits nothing.
    """
    if adapter.used:
        _adapt(model, adapter, seed, dtype)
    elif config.freeze:
        _freeze(model, config.freeze, new)
    if (adapter.used or config.freeze) and config.activation_checkpointing:
        # The first block's input would carry no gradient, and what recomputes it would see none to compute.
        model.enable_input_require_grads()


def file_name(name: str) -> str:
    """The name that a frozen weight has in the model's files: peft puts a layer of its own around adapted ones."""
    return name.replace(".base_layer.", ".")


def peft_config(adapter: AdapterConfig, targets: list[str], task: str, also: list[str]) -> Any:
    """peft's own description of the adapters; `also` are modules that are saved whole."""
    from peft import LoraConfig

    return LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=targets,
        modules_to_save=also or None,
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
        task_type=task,
    )


def _adapt(model: Any, adapter: AdapterConfig, seed: int, dtype: torch.dtype) -> None:
    from peft import inject_adapter_in_model

    targets = adapted_layers(model, adapter)
    also = [*adapter.train_also, *trained_beside(model)]
    # peft draws first weights of its own.
    with torch.random.fork_rng(devices=[]):
        inject_adapter_in_model(peft_config(adapter, targets, "CAUSAL_LM", []), model, adapter_name=NAME)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if lies_in(name, also):
            parameter.requires_grad_(True)
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = _first_values(name, parameter, seed).to(parameter.device, dtype)
    if adapter.kind is AdapterKind.qlora:
        _keep_format(model)


def _first_values(name: str, parameter: torch.nn.Parameter, seed: int) -> torch.Tensor:
    """What an adapter begins with, a function of (seed, name): A as torch's linear layers begin, B at zero, so that
    the model is what it was; DoRA's magnitudes, which peft has taken from the layer below, as they are.
    """
    if ".lora_A." in name:
        generator = torch.Generator().manual_seed(derive(seed, name))
        bound = 1 / math.sqrt(parameter.shape[1])
        return torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
    if ".lora_B." in name:
        return torch.zeros(parameter.shape)
    return parameter.data


def _keep_format(model: Any) -> None:
    """Keep 4-bit weights as they are on CPUs: bitsandbytes packs them anew in the first evaluation there, and computes
    otherwise from then on, so that a run that was resumed after it would not be the one that went through.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _freeze(model: Any, patterns: list[str], new: Collection[str]) -> None:
    # A weight that two layers share has two names, and is frozen by either.
    named = dict(model.named_parameters(remove_duplicate=False))
    problems = []
    for number, pattern in enumerate(patterns):
        where, found = f"model.freeze[{number}]", [name for name in named if re.search(pattern, name)]
        if not found:
            near = ", ".join(closest_first(pattern, named))
            problems.append(Problem(where=where, message=f"{pattern!r} is found in the name of no weight", valid=near))
        for name in set(found) & set(new):
            words = f"{name} comes from no file of the model, and would stay random"
            problems.append(Problem(where=where, message=words, remedy="a pattern that leaves it out"))
        for name in found:
            named[name].requires_grad_(False)
    if not problems and not any(parameter.requires_grad for parameter in named.values()):
        problems.append(Problem(where="model.freeze", message="nothing is left to train", remedy="freeze less"))
    if problems:
        raise UserError(*problems)
