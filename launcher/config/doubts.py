"""What a config allows and is likely a mistake. Pure; what is certainly one is the business of `validate`.

A rule is a small function that yields what it finds; `RULES` names them all.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.config.schema import Attention, Config, Dtype, Init, ScheduleName
from launcher.errors import Problem
from launcher.gpus import BF16_SINCE, FLASH_ATTENTION_2_SINCE, gpu_named

MOST_LR, MOST_LR_ADAPTERS, MOST_LR_RANDOM = 6e-4, 6e-3, 2e-2
"""The highest rate of GPT-3's models, the smallest of which learnt with it from nothing (arXiv:2005.14165, table 2.1);
adapters take about ten times what whole models do; random weights of very small ones more still (the demo 2e-3)."""
LEAST_LR, LEAST_LR_ADAPTERS = 1e-8, 1e-6
"""The recipes' lowest are 5e-7 (dpo, kto) and 1e-4 (qlora)."""
LION_SHARE = 1 / 3
"""Of AdamW's rate, at most (arXiv:2302.06675, section 5)."""
MOST_STEP_TOKENS = 16_777_216
"""The largest batch of Llama 3 405B (arXiv:2407.21783, section 3.4.1)."""
MOST_WARMUP = 0.5
"""Share of a run."""


def doubts(config: Config) -> list[Problem]:
    """All that the rules find; `config` may be one that cannot be planned."""
    return [found for rule in RULES for found in rule(config)]


def _learning_rate(config: Config) -> Iterator[Problem]:
    lr, used = config.optim.lr, config.adapter.used
    whole = MOST_LR_RANDOM if config.model.init is Init.random else MOST_LR
    scale = LION_SHARE if config.optim.name == "lion" else 1
    most, least = (MOST_LR_ADAPTERS if used else whole) * scale, (LEAST_LR_ADAPTERS if used else LEAST_LR) * scale
    usual = "adapters with 1e-4 to 2e-4" if used else "trained models with 5e-7 to 1e-5"
    if lr > most or 0 < lr < least:
        yield Problem(
            where="optim.lr",
            message=f"{lr:g} is far {'above' if lr > most else 'below'} what is known to work with {config.optim.name}",
            valid=f"{least:.1g} to {most:.1g}; the recipes train {usual} (adamw)",
        )


def _warm_up(config: Config) -> Iterator[Problem]:
    schedule = config.schedule
    decay = schedule.decay_ratio if schedule.name is ScheduleName.wsd else 0.0
    if schedule.warmup_ratio > MOST_WARMUP or (decay and schedule.warmup_ratio + decay > 1):
        taken = f" and decays over {decay:.0%}" if decay else ""
        yield Problem(
            where="schedule.warmup_ratio",
            message=f"the rate warms up over {schedule.warmup_ratio:.0%} of the run{taken}",
            valid=f"at most {MOST_WARMUP:g}" + (", and with schedule.decay_ratio at most 1" if decay else ""),
        )


def _batch(config: Config) -> Iterator[Problem]:
    sequences, longest = config.train.global_batch_size, config.data.seq_len
    tokens = sequences * longest
    if tokens > MOST_STEP_TOKENS:
        yield Problem(
            where="train.global_batch_size",
            message=f"{sequences} sequences of up to {longest:,} tokens are {tokens:,} a step",
            valid=f"at most {MOST_STEP_TOKENS:,} tokens, which Llama 3 405B ended with",
        )


def _never_reached(config: Config) -> Iterator[Problem]:
    """Things that are to happen every so many steps, in a run of fewer."""
    train = config.train
    steps = None if train.max_steps is None else min(train.max_steps, train.stop_at or train.max_steps)
    evaluated = train.eval_every if config.data.eval is not None else None
    for where, every, only in (
        ("checkpoint.every_steps", config.checkpoint.every_steps, "a checkpoint is written at the end only"),
        ("train.eval_every", evaluated, "it is evaluated at the start and the end only"),
    ):
        if steps is not None and every is not None and every > steps:
            yield Problem(
                where=where,
                message=f"{every} is never reached in {steps} steps, so {only}",
                remedy=f"write {where}={max(1, steps // 4)}, or {where}=null if that is meant",
            )


def _gpu_type(config: Config) -> Iterator[Problem]:
    gpu, cluster = gpu_named(config.cluster.gpu_type), config.cluster
    if gpu is None:
        return
    # None of what has no CUDA lacks either.
    capability = gpu.capability or BF16_SINCE
    if config.precision.dtype is Dtype.bf16 and capability < BF16_SINCE:
        yield Problem(
            where="precision",
            message=f"a {gpu.name} does not compute in bf16",
            remedy="write precision=fp16, or ask for newer GPUs",
        )
    if config.model.attention is Attention.flash_attention_2 and capability < FLASH_ATTENTION_2_SINCE:
        yield Problem(
            where="model.attention",
            message=f"FlashAttention-2 has no kernels for a {gpu.name}",
            remedy="write model.attention=sdpa",
        )
    if cluster.gpu_memory_gb > gpu.memory_gb:
        yield Problem(
            where="cluster.gpu_memory_gb",
            message=f"{cluster.gpu_memory_gb:g} is more than any {gpu.name} has",
            valid=f"at most {gpu.memory_gb:g}",
        )


def _kernels(config: Config) -> Iterator[Problem]:
    if config.model.attention is Attention.flash_attention_2 and config.precision.dtype is Dtype.fp32:
        yield Problem(
            where="model.attention",
            message="FlashAttention-2 has no kernels for fp32",
            remedy="write model.attention=sdpa, or precision=bf16",
        )


RULES = (_learning_rate, _warm_up, _batch, _never_reached, _gpu_type, _kernels)
