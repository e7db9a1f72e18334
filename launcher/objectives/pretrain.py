"""Continued pretraining: next-token cross-entropy on every token of raw text."""

from __future__ import annotations

from launcher.objectives.sft import Options, Sft

__all__ = ["Options", "Pretrain", "build"]


class Pretrain(Sft):
    """`sft` under the name of what it does to text without prompts, in which every token carries loss."""

    name = "pretrain"


def build(options: Options) -> Pretrain:
    """The objective."""
    return Pretrain(options)
