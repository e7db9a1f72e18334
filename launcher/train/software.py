"""Versions of what computes, reads and writes: told in every checkpoint, and the same on all ranks of a run."""

from __future__ import annotations

import platform

import deepspeed
import numpy as np
import torch
import transformers

import launcher


def software() -> dict[str, str]:
    """By package; read from what is imported, so that it costs no look at a disk."""
    return {
        "torch": torch.__version__,
        "deepspeed": deepspeed.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "launcher": launcher.__version__,
        "python": platform.python_version(),
    }
