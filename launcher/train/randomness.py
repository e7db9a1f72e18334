"""Random numbers as a function of (seed, step, rank), so that there is no generator state to save or to lose."""

from __future__ import annotations

import random

import numpy as np
import torch

from launcher.seeds import derive


def reseed(*parts: int | str) -> None:
    """Seed Python's, NumPy's and torch's generators, CUDA's included."""
    seed = derive(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
