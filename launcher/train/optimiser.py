"""AdamW with decay on matrices only, in the implementation that suits the device."""

from __future__ import annotations

from typing import Any

import torch

from launcher.config.schema import Config


def build_optimiser(config: Config, model: torch.nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101) over the trainable parameters."""
    optim = config.optim
    arguments: dict[str, Any] = {"lr": optim.lr, "betas": tuple(optim.betas), "eps": optim.eps}
    groups = parameter_groups(model, optim.weight_decay)
    if config.zero.offload_optimizer and device.type == "cuda":
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        # torch's AdamW on the CPU is several times slower, and the GPU waits for it.
        optimiser: torch.optim.Optimizer = DeepSpeedCPUAdam(groups, adamw_mode=True, **arguments)
        return optimiser
    return torch.optim.AdamW(groups, fused=device.type == "cuda", **arguments)


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices and embeddings with decay; norms and biases without."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for _, parameter in named if dimensions(parameter) >= 2], "weight_decay": weight_decay},
        {"params": [parameter for _, parameter in named if dimensions(parameter) < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def dimensions(parameter: torch.nn.Parameter) -> int:
    """Dimensions of the whole parameter; under ZeRO-3 the local tensor is empty and `ds_shape` tells."""
    return len(getattr(parameter, "ds_shape", parameter.shape))
