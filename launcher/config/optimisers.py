"""Which optimisers there are, and why some are none here. Pure.

ZeRO hands an optimiser flat parts of many parameters at once. What it does to an element may depend on that element's
history alone.
"""

from __future__ import annotations

STATE_BYTES = {"adamw": 8, "lion": 4}
"""By name: bytes of state per parameter, in fp32."""

LEAST_STAGE = {"adamw": 0, "lion": 1}
"""By name: the lowest ZeRO stage at which it has been held against its formula."""

NOT_HERE = {
    "adafactor": "its factors are of whole matrices, and ZeRO gives an optimiser flat parts of them",
    "muon": "it orthogonalises whole matrices, and ZeRO gives an optimiser flat parts of them; DeepSpeed has one of "
    "its own, which has not been tried here",
    "adam8bit": "its states are blocks of 8-bit numbers, which cannot be cut anew for another number of ranks",
}
"""Optimisers that people ask for."""
