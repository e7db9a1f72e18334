"""What is known of GPU types: by torch's name of a device, or by what a cluster calls it in gres requests."""

from __future__ import annotations

import re
from dataclasses import dataclass

BF16_SINCE = FLASH_ATTENTION_2_SINCE = (8, 0)
"""Compute capability (Ampere) from which on a device computes in bf16, and FlashAttention-2 has kernels for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One type; numbers from the makers' data sheets."""

    name: str
    """As it stands in longer names."""
    peak_flops: float
    """Dense half-precision FLOP/s."""
    memory_gb: float
    """Memory, GB, of the largest that is made."""
    capability: tuple[int, int] | None = None
    """CUDA compute capability; None where there is no CUDA."""


GPUS = (
    Gpu(name="B200", peak_flops=2250e12, memory_gb=192, capability=(10, 0)),
    Gpu(name="H200", peak_flops=989e12, memory_gb=141, capability=(9, 0)),
    Gpu(name="H100 PCIE", peak_flops=756e12, memory_gb=80, capability=(9, 0)),
    Gpu(name="H100", peak_flops=989e12, memory_gb=96, capability=(9, 0)),
    Gpu(name="A100", peak_flops=312e12, memory_gb=80, capability=(8, 0)),
    Gpu(name="L40S", peak_flops=362e12, memory_gb=48, capability=(8, 9)),
    Gpu(name="A10", peak_flops=125e12, memory_gb=24, capability=(8, 6)),
    Gpu(name="V100", peak_flops=125e12, memory_gb=32, capability=(7, 0)),
    Gpu(name="T4", peak_flops=65e12, memory_gb=16, capability=(7, 5)),
    Gpu(name="MI300X", peak_flops=1307e12, memory_gb=192),
)
"""The first whose name is part of another counts."""


def gpu_named(name: str | None) -> Gpu | None:
    """The type that is meant by `NVIDIA H100 80GB HBM3`, `h100-pcie` or `nvidia_a100`; None where none is known."""
    words = re.sub(r"[^A-Z0-9]+", " ", (name or "").upper())
    return next((gpu for gpu in GPUS if gpu.name in words), None)
