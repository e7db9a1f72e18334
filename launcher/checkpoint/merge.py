"""All weights of a model that was trained in part: those of its files, with what was trained in place or merged in.

One tensor is in memory at a time; whoever asks for several decides how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from launcher.config.adapter import AdapterConfig
from launcher.models.adapters import NAME
from launcher.models.base import BaseWeights

WEIGHT = ".weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class Lazy:
    """Stands in for a tensor of the whole model: reads and computes it when asked to become contiguous."""

    name: str
    """Of the weight."""
    shape: tuple[int, ...]
    """Of the tensor."""
    base: BaseWeights
    """Where it comes from."""
    dtype: torch.dtype
    """What the files' weights were trained on top of in."""
    adapter: Mapping[str, Any]
    """Its adapter's weights: lora_A, lora_B and, of DoRA, lora_magnitude_vector; empty where it has none."""
    scaling: float
    """What their product counts."""

    def contiguous(self) -> Tensor:
        """The tensor; where there is an adapter, in fp32."""
        weight = self.base.read(self.name).to(self.dtype)
        if not self.adapter:
            return weight.contiguous()
        parts = {name: part.contiguous().float() for name, part in self.adapter.items()}
        return merged(weight.float(), parts, self.scaling)


def merged(weight: Tensor, adapter: Mapping[str, Tensor], scaling: float) -> Tensor:
    """W + scaling · B A; of DoRA that, each row brought to its magnitude (arXiv:2402.09353, eq. 5). All fp32."""
    total: Tensor = weight + scaling * (adapter["lora_B"] @ adapter["lora_A"])
    magnitude = adapter.get("lora_magnitude_vector")
    if magnitude is None:
        return total
    share: Tensor = magnitude / torch.linalg.norm(total, dim=1)
    return share.unsqueeze(1) * total


def whole_weights(
    trained: Mapping[str, Any], base: BaseWeights, names: list[str], adapter: AdapterConfig, dtype: torch.dtype
) -> dict[str, Any]:
    """Name to tensor, or to a stand-in, for each of the model's `names`; `dtype` is the compute precision."""
    parts = adapter_parts(trained)
    weights: dict[str, Any] = {}
    for name in names:
        if name in trained:
            weights[name] = trained[name]
            continue
        own = parts.pop(name.removesuffix(WEIGHT), {}) if name.endswith(WEIGHT) else {}
        weights[name] = Lazy(
            name=name,
            shape=base.shape(name),
            base=base,
            dtype=dtype,
            adapter=own,
            scaling=adapter.scaling if own else 0.0,
        )
    assert not parts, f"adapters on layers that the model does not have: {sorted(parts)[:5]}"
    return weights


def adapter_parts(trained: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Adapters by the layer they are on: {layer: {lora_A, lora_B, …: weight}}."""
    found: dict[str, dict[str, Any]] = {}
    for name, weight in trained.items():
        layer, mark, rest = name.partition(".lora_")
        if mark:
            part, _, _ = rest.partition(f".{NAME}")
            found.setdefault(layer, {})[f"lora_{part}"] = weight
    return found
