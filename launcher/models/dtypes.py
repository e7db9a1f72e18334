"""Compute precisions as torch types."""

from __future__ import annotations

import torch

from launcher.config.schema import Dtype

TORCH_DTYPES = {Dtype.bf16: torch.bfloat16, Dtype.fp16: torch.float16, Dtype.fp32: torch.float32}
