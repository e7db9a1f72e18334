"""The optimiser, with decay on matrices only, and rates by layer and by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from launcher.config.schema import Config, GroupConfig, OptimConfig
from launcher.errors import Problem, UserError
from launcher.train.adafactor import Adafactor
from launcher.train.adam8bit import Adam8bit
from launcher.train.cpu_adam import cpu_adam
from launcher.train.lion import Lion
from launcher.train.muon import Muon

_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
_SHOWN = 8


def build_optimiser(config: Config, model: torch.nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """The one that the config names, over the trainable parameters."""
    return _BUILDERS[config.optim.name](config, parameter_groups(model, config.optim), device)


def _adamw(config: Config, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101)."""
    optim = config.optim
    arguments: dict[str, Any] = {"lr": optim.lr, "betas": tuple(optim.betas), "eps": optim.eps}
    if config.zero.offload_optimizer and device.type == "cuda":
        return cpu_adam(groups, **arguments)
    return torch.optim.AdamW(groups, fused=device.type == "cuda", **arguments)


def _lion(config: Config, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    first, second = config.optim.betas
    return Lion(groups, lr=config.optim.lr, betas=(first, second))


def _adam8bit(config: Config, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    first, second = config.optim.betas
    return Adam8bit(groups, lr=config.optim.lr, betas=(first, second), eps=config.optim.eps)


def _adafactor(config: Config, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    return Adafactor(groups, lr=config.optim.lr)


def _muon(config: Config, groups: list[dict[str, Any]], device: torch.device) -> torch.optim.Optimizer:
    optim, (first, second) = config.optim, config.optim.betas
    return Muon(
        groups,
        lr=optim.lr,
        momentum=optim.momentum,
        betas=(first, second),
        eps=optim.eps,
        fused=device.type == "cuda",
    )


_BUILDERS: dict[str, Callable[[Config, list[dict[str, Any]], torch.device], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "lion": _lion,
    "muon": _muon,
    "adafactor": _adafactor,
    "adam8bit": _adam8bit,
}


def parameter_groups(model: torch.nn.Module, optim: OptimConfig) -> list[dict[str, Any]]:
    """Parameters by decay and share of the rate: matrices and embeddings decay, norms and biases do not, unless
    `optim.groups` says otherwise. UserError where one of these matches nothing.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    _require_matches(optim.groups, [name for name, _ in named])
    layers = 1 + max((_layer(name) for name, _ in named), default=0)
    found: dict[tuple[float, float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in named:
        decay = optim.weight_decay if dimensions(parameter) >= 2 else 0.0
        scale = 1.0 if optim.layer_decay is None else optim.layer_decay ** _below_head(name, layers)
        for group in optim.groups:
            if re.search(group.match, name):
                scale *= group.lr_scale
                decay = decay if group.weight_decay is None else group.weight_decay
        whole = optim.name == "muon" and _layer(name) >= 0 and dimensions(parameter) == 2
        found.setdefault((decay, scale, whole), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale} | ({"whole": True} if whole else {})
        for (decay, scale, whole), parameters in found.items()
    ]


def _require_matches(groups: list[GroupConfig], names: list[str]) -> None:
    problems = [
        Problem(
            where=f"optim.groups[{number}].match",
            message=f"{group.match!r} is found in the name of no parameter",
            valid=", ".join(names[:_SHOWN]) + " …",
        )
        for number, group in enumerate(groups)
        if not any(re.search(group.match, name) for name in names)
    ]
    if problems:
        raise UserError(*problems)


def _layer(name: str) -> int:
    """The number of the transformer block that a parameter is in; -1 outside any."""
    found = _LAYER.search(name)
    return -1 if found is None else int(found.group(1))


def _below_head(name: str, layers: int) -> int:
    """How far below the head a parameter is: 0 for the head and the last norm, layers + 1 for the embedding
    (Clark et al., ELECTRA, arXiv:2003.10555, appendix A).
    """
    layer = _layer(name)
    if layer >= 0:
        return layers - layer
    return layers + 1 if "embed" in name or "wte" in name else 0


def dimensions(parameter: torch.nn.Parameter) -> int:
    """Dimensions of the whole parameter; under ZeRO-3 the local tensor is empty and `ds_shape` tells."""
    return len(getattr(parameter, "ds_shape", parameter.shape))
