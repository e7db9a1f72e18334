"""A stand-in for DeepSpeed's engine: a tiny model on one rank."""

from __future__ import annotations

from typing import Any

import torch

from tests.workbench import LLAMA


class Engine:
    """What evaluation asks of an engine."""

    def __init__(self, stage: int = 0) -> None:
        from transformers import AutoModelForCausalLM, LlamaConfig

        torch.manual_seed(3)
        self.module: Any = AutoModelForCausalLM.from_config(LlamaConfig(**LLAMA))
        self._stage = stage

    def __call__(self, **inputs: Any) -> Any:
        return self.module(**inputs)

    @property
    def training(self) -> bool:
        """DeepSpeed's own says so whatever the model does."""
        return bool(self.module.training)

    def eval(self) -> None:
        self.module.eval()

    def train(self) -> None:
        self.module.train()

    def zero_optimization_stage(self) -> int:
        return self._stage
