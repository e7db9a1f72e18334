"""What a checkpoint holds of a model that is trained in part: the trained weights. The rest is in the model's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def trains_in_part(module: torch.nn.Module) -> bool:
    """Whether some of the weights stay as they came."""
    return any(not parameter.requires_grad for parameter in module.parameters())


def trained_names(module: torch.nn.Module) -> set[str]:
    """All names of trained weights, and of buffers.

    A frozen weight that two layers share has two names, of which DeepSpeed leaves out one, and a quantised one brings
    entries of its own into a state dict: so these are named, not those that go.
    """
    names = {name for name, weight in module.named_parameters(remove_duplicate=False) if weight.requires_grad}
    return names | {name for name, _ in module.named_buffers(remove_duplicate=False)}


def save_trained_only(engine: Any) -> None:
    """Have DeepSpeed's engine save trained weights only, and shapes and fragments of no others."""
    names, whole, save = trained_names(engine.module), engine.module_state_dict, engine.save_checkpoint

    def trained(*arguments: Any, **options: Any) -> Any:
        state = whole(*arguments, **options)
        for name in set(state) - names:
            del state[name]
        return state

    engine.module_state_dict = trained
    engine.save_checkpoint = lambda *arguments, **options: save(*arguments, exclude_frozen_parameters=True, **options)


def put_trained(src: Mapping[str, Any], dst: torch.nn.Module) -> None:
    """Load trained weights over a model that has the others already; in the form that DeepSpeed asks for."""
    loaded = dst.load_state_dict(src, strict=False)
    missing = trained_names(dst).intersection(loaded.missing_keys)
    assert not missing, f"the checkpoint lacks trained weights: {sorted(missing)[:5]}"
    assert not loaded.unexpected_keys, f"the model has no such weights: {loaded.unexpected_keys[:5]}"
