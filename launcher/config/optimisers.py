"""Which optimisers there are, and why some are none here. Pure.

ZeRO hands an optimiser flat parts of many parameters at once. What it does to an element may depend on that element's
history alone.
"""

from __future__ import annotations

from launcher.config.schema import OptimConfig

STATE_BYTES = {"adamw": 8, "lion": 4}
"""By name: bytes of state per parameter, in fp32."""


def state_bytes(optim: OptimConfig) -> int:
    """Bytes of state per trained parameter, a moving average included. What is no optimiser is told of elsewhere."""
    return STATE_BYTES.get(optim.name, 8) + (0 if optim.ema_decay is None else 4)


LEAST_STAGE = {"adamw": 0, "lion": 1}
"""By name: the lowest ZeRO stage at which it has been held against its formula."""

NOT_HERE = {
    "adafactor": "its factors are of whole matrices, and ZeRO gives an optimiser flat parts of them",
    "muon": "it orthogonalises whole matrices, and ZeRO gives an optimiser flat parts of them; DeepSpeed has a Muon of "
    "its own, which has not been tried here",
    "adam8bit": "its states are blocks of 8-bit numbers, which cannot be cut anew for another number of ranks",
}
"""Optimisers that people ask for."""
