"""Types of the `adapter` group: which weights are trained in place of, or beside, the model's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

ALL_LINEAR = "all-linear"
"""As a target: every linear layer but the head."""


class AdapterKind(Enum):
    """What is trained."""

    full = "full"
    """The model's own weights; no adapter."""
    lora = "lora"
    """Low-rank matrices beside linear layers that stay as they are (Hu et al., arXiv:2106.09685)."""
    qlora = "qlora"
    """The same over linear layers held in 4-bit NormalFloat (Dettmers et al., arXiv:2305.14314)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """Adapters, and what they are put on."""

    kind: AdapterKind
    """Whether there are any, and how the layers below them are held."""
    r: int
    """Rank: inner width of the two matrices."""
    alpha: float
    """Their product counts alpha / r times, with `rslora` alpha / sqrt(r) times."""
    dropout: float
    """Share of the inputs of an adapter that are left out in training."""
    targets: list[str]
    """Linear layers that get adapters, by the ends of their names (`q_proj`); `all-linear`: all but the head."""
    train_also: list[str]
    """Modules whose own weights are trained as well, by the ends of their names (`lm_head`, `norm`)."""
    rslora: bool
    """Scale by the root of the rank (Kalajdzievski, arXiv:2312.03732)."""
    dora: bool
    """Learn each output's magnitude apart from its direction (Liu et al., arXiv:2402.09353)."""
    double_quant: bool
    """Quantise the scales of the 4-bit blocks too; qlora only."""

    @property
    def used(self) -> bool:
        """Whether there are adapters."""
        return self.kind is not AdapterKind.full

    @property
    def scaling(self) -> float:
        """What the product of the two matrices is multiplied with."""
        return self.alpha / (math.sqrt(self.r) if self.rslora else self.r)


def ends_with(name: str, ends: list[str]) -> bool:
    """Whether a module's name is one of `ends`, or ends with one after a dot: peft's rule for lists."""
    return any(name == end or name.endswith(f".{end}") for end in ends)


def lies_in(name: str, modules: list[str]) -> bool:
    """Whether a weight's name lies anywhere below a module whose name ends with one of `modules`."""
    parts = name.split(".")
    return any(ends_with(".".join(parts[:length]), modules) for length in range(1, len(parts)))
