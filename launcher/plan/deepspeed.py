"""DeepSpeed's config, whole, from typed keys. Pure.

The optimiser and the schedule are not in it: the node side owns both (`launcher.train`).
"""

from __future__ import annotations

from typing import Any

from launcher.config.schema import Config, Dtype
from launcher.errors import Problem
from launcher.runplan import Batch

TRIED_BY_DEEPSPEED = ("adamw",)
"""Optimisers that DeepSpeed takes under ZeRO without being told that they are all right."""


def deepspeed_config(config: Config, batch: Batch) -> tuple[dict[str, Any], list[Problem]]:
    """The config that every rank hands to DeepSpeed, and the keys of `deepspeed.extra` that it refuses."""
    own = _own(config, batch)
    problems: list[Problem] = []
    merged = _merge(own, config.deepspeed.extra, "deepspeed.extra", problems)
    return merged, problems


def _own(config: Config, batch: Batch) -> dict[str, Any]:
    dtype = config.precision.dtype
    document: dict[str, Any] = {
        "train_batch_size": batch.global_batch_size,
        "train_micro_batch_size_per_gpu": batch.micro_batch_size,
        "gradient_accumulation_steps": batch.accumulation,
        "gradient_clipping": config.optim.grad_clip or 0.0,
        "bf16": {"enabled": dtype is Dtype.bf16},
        "fp16": {"enabled": dtype is Dtype.fp16},
        "zero_optimization": _zero(config),
        # Otherwise offloading demands DeepSpeed's own CPU optimiser, and a compiler on every node.
        "zero_force_ds_cpu_optimizer": False,
        # We write our own lines, one a step.
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
    }
    if config.optim.name not in TRIED_BY_DEEPSPEED:
        document["zero_allow_untested_optimizer"] = True
    if config.zero.stage >= 1 and dtype is not Dtype.fp32:
        # Sums of gradients over accumulation steps and ranks lose bits in half precision. DeepSpeed has no such sums
        # at stage 0.
        document["data_types"] = {"grad_accum_dtype": "fp32"}
    return document


def _zero(config: Config) -> dict[str, Any]:
    zero = config.zero
    document: dict[str, Any] = {"stage": zero.stage}
    if zero.stage >= 1:
        document |= {
            "overlap_comm": zero.overlap_comm,
            "contiguous_gradients": True,
            "reduce_bucket_size": zero.bucket_elements,
            "allgather_bucket_size": zero.bucket_elements,
        }
    if zero.stage == 3:
        document |= {
            "stage3_prefetch_bucket_size": zero.prefetch_elements,
            "stage3_param_persistence_threshold": zero.persistence_elements,
            "stage3_max_live_parameters": zero.max_live_elements,
            "stage3_max_reuse_distance": zero.max_live_elements,
            # Exports read the checkpoint's shards; gathering 16-bit weights at every save would hold them whole.
            "stage3_gather_16bit_weights_on_model_save": False,
        }
    if zero.offload_optimizer:
        document["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if zero.offload_param:
        document["offload_param"] = {"device": "cpu", "pin_memory": True}
    return document


REFUSED = {
    "optimizer": "optim",
    "scheduler": "schedule",
    "checkpoint": "checkpoint",
    "zero_optimization.stage": "zero.stage",
    "zero_optimization.offload_optimizer": "zero.offload_optimizer",
    "zero_optimization.offload_param": "zero.offload_param",
}
"""DeepSpeed keys that are refused though the generated config may lack them, and what to set instead."""


def _merge(own: dict[str, Any], extra: dict[str, Any], where: str, problems: list[Problem]) -> dict[str, Any]:
    merged = dict(own)
    for key, value in extra.items():
        spot = f"{where}.{key}"
        typed = REFUSED.get(spot.removeprefix("deepspeed.extra."))
        if isinstance(own.get(key), dict) and isinstance(value, dict):
            merged[key] = _merge(own[key], value, spot, problems)
        elif key in own or typed is not None:
            problems.append(
                Problem(
                    where=spot,
                    message=f"{value!r} would override what other settings decide ({own.get(key, 'not set')!r})",
                    remedy=f"set {typed} instead" if typed else "set the typed key (optim, zero, precision, train)",
                )
            )
        else:
            merged[key] = value
    return merged
