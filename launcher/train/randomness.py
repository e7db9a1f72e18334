"""Random numbers as a function of (seed, step, rank), so that there is no generator state to save or to lose."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def derive(*parts: int | str) -> int:
    """A seed of 63 bits from its parts; any two lists of parts give unrelated ones."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def reseed(*parts: int | str) -> None:
    """Seed Python's, NumPy's and torch's generators, CUDA's included."""
    seed = derive(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
