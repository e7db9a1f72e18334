"""A step as the plan tells it: measured by an earlier run of the same kind, else estimated, else not known. Pure."""

from __future__ import annotations

from dataclasses import replace

from launcher.config.schema import Config
from launcher.expected import Pace
from launcher.objectives.registry import objective_of
from launcher.plan.earlier import Earlier
from launcher.plan.lead import assumed_save_s, checkpoint_bytes
from launcher.plan.prepared import Prepared
from launcher.plan.time import Setting, compute_s, not_counted, overlapped, rate, step_s, traffic_s, utilisation

COPY_BYTES_PER_S = 5e9
"""Assumed of a GPU whose states are copied into host memory."""


def pace(setting: Setting, data: Prepared | None, before: Earlier | None) -> Pace:
    """A step of `setting`, whose tokens `step_tokens` counted of the same data."""
    estimate = _estimate(setting, data)
    if before is None:
        return estimate
    # Of other rows, tokens a second say more than seconds a step.
    seconds = before.step_s if data is None else setting.tokens / before.tokens_per_s
    measured = replace(
        estimate,
        step_s=seconds,
        tokens_per_s=before.tokens_per_s,
        mfu=before.mfu,
        compute_s=None,
        traffic_s=None,
        how=f"measured by {before.run_id}",
        not_counted=[word for word in estimate.not_counted if word == "evaluations"],
        measured=True,
    )
    if data is None:
        measured = replace(measured, tokens=round(seconds * before.tokens_per_s), tokens_how="as in that run")
    if before.save_s is None or before.stall_s is None:
        return measured
    return replace(measured, save_s=before.save_s, stall_s=before.stall_s)


def step_tokens(config: Config, data: Prepared | None) -> tuple[float, float]:
    """Tokens of a step over all ranks, and of a row: as they are, or the most that can be."""
    needs, size, longest = objective_of(config).needs, config.train.global_batch_size, config.data.seq_len
    # Rows hold no answers yet where the model gives them.
    if data is None or needs.rollouts is not None:
        return size * longest * needs.learns.rows_per_example, longest
    return size * data.sample_tokens, data.row_tokens


def _estimate(setting: Setting, data: Prepared | None) -> Pace:
    config, computing, seconds = setting.config, compute_s(setting), step_s(setting)
    known = data is not None and objective_of(config).needs.rollouts is None
    speed = None if seconds is None else setting.tokens / seconds
    save_s = assumed_save_s(config, setting.memory, setting.nodes)
    copied = checkpoint_bytes(config, setting.memory) / setting.ranks / COPY_BYTES_PER_S
    return Pace(
        tokens=round(setting.tokens),
        tokens_how="the mean of the prepared rows" if known else "every row as long as can be",
        step_s=seconds,
        tokens_per_s=speed,
        mfu=None if speed is None else utilisation(setting, speed),
        compute_s=computing,
        traffic_s=None if computing is None else traffic_s(setting),
        how=_words(setting),
        not_counted=not_counted(config),
        save_s=save_s,
        stall_s=copied if config.checkpoint.asynchronous else save_s,
        measured=False,
    )


def _words(setting: Setting) -> str:
    """What the estimate takes for granted."""
    config, cluster, found = setting.config, setting.config.cluster, rate(setting.config)
    if found.peak_flops is None:
        return f"not known: {found.how}"
    link = cluster.interconnect_gb_s if setting.nodes > 1 else cluster.gpu_link_gb_s
    moving = f", {link:g} GB/s a GPU" if setting.ranks > 1 else ""
    beside = " beside computing" if moving and overlapped(config) else ""
    return (
        f"estimated: {cluster.efficiency:.0%} of {found.peak_flops / 1e12:,.0f} TFLOP/s ({found.how}){moving}{beside}"
    )
