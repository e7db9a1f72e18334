"""How much of a model is trained, counted from its shape. Pure.

Counts by the names that transformers gives the weights of a decoder; where targets fit none of them, as if every
linear layer had an adapter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from launcher.config.adapter import ALL_LINEAR, AdapterConfig, AdapterKind, ends_with, lies_in
from launcher.config.schema import Config, ShapeConfig
from launcher.models.shape import parameter_count, weights
from launcher.remember import remembered

BLOCK, GROUP = 64, 256
"""bitsandbytes: weights that share a scale, and scales that share one when they are quantised too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Parameters, counted by what becomes of them."""

    whole: int
    """Of the model as it comes."""
    own: int
    """Those of them that are trained."""
    adapters: int
    """Added to it, and trained."""
    quantised: int
    """Of the model, held in 4 bits."""
    hidden: int
    """Trained ones in matrices inside the blocks."""

    @property
    def trained(self) -> int:
        """With gradients and optimiser states."""
        return self.own + self.adapters


def parts(config: Config, shape: ShapeConfig) -> Parts:
    """What becomes of the parameters of a model of this shape."""
    return _parts(config.adapter, config.model.freeze, shape)


@remembered
def _parts(adapter: AdapterConfig, freeze: Sequence[str], shape: ShapeConfig) -> Parts:
    named, whole = list(weights(shape)), parameter_count(shape)
    if not adapter.used:
        frozen = [re.compile(pattern) for pattern in freeze]
        trained = [one for one in named if not any(pattern.search(one[0]) for pattern in frozen)]
        own = sum(math.prod(size) for _, size in trained)
        return Parts(whole=whole, own=own, adapters=0, quantised=0, hidden=_hidden(trained))
    linear = {name.removesuffix(".weight"): size for name, size in named if _linear(name, size)}
    head = {"lm_head": (shape.vocab_size, shape.hidden_size)}
    chosen = {
        name: size
        for name, size in {**linear, **head}.items()
        if ends_with(name, adapter.targets) or (ALL_LINEAR in adapter.targets and name in linear)
    }
    also = [one for one in named if lies_in(one[0], adapter.train_also)]
    inner = sum(math.prod(size) for name, size in linear.items() if not lies_in(f"{name}.weight", adapter.train_also))
    adapted = chosen or linear
    return Parts(
        whole=whole,
        own=sum(math.prod(size) for _, size in also),
        adapters=sum(adapter.r * sum(size) + size[0] * adapter.dora for size in adapted.values()),
        hidden=_hidden(also) + sum(adapter.r * sum(size) for name, size in adapted.items() if ".layers." in name),
        quantised=inner if adapter.kind is AdapterKind.qlora else 0,
    )


def _linear(name: str, size: tuple[int, ...]) -> bool:
    """Whether it is the weight of a linear layer of a block; a router is none, nor are experts in one tensor."""
    return len(size) == 2 and ".layers." in name and not name.endswith(".mlp.gate.weight")


def bytes_quantised(*, double: bool) -> float:
    """Bytes of a parameter in 4-bit NormalFloat with its share of scales (arXiv:2305.14314, section 3)."""
    scale = 1 + 4 / GROUP if double else 4
    return 0.5 + scale / BLOCK


def _hidden(named: Iterable[tuple[str, tuple[int, ...]]]) -> int:
    return sum(math.prod(size) for name, size in named if len(size) == 2 and ".layers." in name)
