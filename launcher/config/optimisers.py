"""Which optimisers there are, and why some are none here. Pure.

ZeRO hands an optimiser flat parts of many parameters at once. What it does to an element may depend on that element's
history alone.
"""

from __future__ import annotations

from launcher.config.schema import OptimConfig

STATE_BYTES: dict[str, float] = {"adamw": 8, "lion": 4, "muon": 8}
"""By name: bytes of state per parameter, in fp32; of muon, those of what it leaves to AdamW."""
MUON_BYTES = 4
"""Per element of a hidden matrix."""


def state_bytes(optim: OptimConfig, hidden: float = 0.0) -> float:
    """Bytes of state per trained parameter, a moving average included; `hidden` is the share of hidden matrices.

    What is no optimiser is told of elsewhere.
    """
    own = STATE_BYTES.get(optim.name, 8)
    if optim.name == "muon":
        own -= (own - MUON_BYTES) * hidden
    return own + (0 if optim.ema_decay is None else 4)


LEAST_STAGE = {"adamw": 0, "lion": 1, "muon": 1}
"""By name: the lowest ZeRO stage at which it has been held against its formula."""

NOT_OFFLOADED = {"muon": "the ranks exchange parts of matrices where the states are, and NCCL knows GPUs only"}
"""By name: why its states cannot lie in host memory."""

NOT_HERE = {
    "adafactor": "its factors are of whole matrices, and ZeRO gives an optimiser flat parts of them",
    "adam8bit": "its states are blocks of 8-bit numbers, which cannot be cut anew for another number of ranks",
}
"""Optimisers that people ask for."""
