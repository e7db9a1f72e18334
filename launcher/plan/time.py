"""How long an optimiser step takes: operations over the rate of the GPUs, and bytes over that of their links. Pure.

An estimate of what is there in any case. It knows neither padding nor waiting for data, and takes it that collectives
go on beside computing wherever DeepSpeed lets them.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.config.cluster import Accelerator, ClusterConfig
from launcher.config.schema import Config, Dtype, ShapeConfig
from launcher.gpus import gpu_named
from launcher.models.shape import flops_per_token, forward_flops_per_token
from launcher.objectives.registry import objective_of
from launcher.runplan import Memory

ASSUMED_GPU = "H100"
"""Where GPUs are asked for without a word of their type."""
TERA = 1e12


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What decides how long a step takes."""

    config: Config
    """Of the run."""
    shape: ShapeConfig
    """Of the model that trains."""
    frozen: int
    """Parameters of models beside it."""
    memory: Memory
    """For its counts of parameters."""
    nodes: int
    """Machines."""
    ranks: int
    """GPUs on all of them."""
    accumulation: int
    """Micro batches a step."""
    tokens: float
    """Tokens that a step takes through the model, over all ranks."""
    row_tokens: float
    """Of a row, which is as far as attention looks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """What a GPU can do."""

    peak_flops: float | None
    """A second; None where it is not known."""
    how: str
    """Where that is from, or what to write."""


def rate(config: Config) -> Rate:
    """The peak of the run's GPUs in its precision: as set, or by the data sheet of their type."""
    cluster = config.cluster
    if cluster.peak_tflops is not None:
        return Rate(peak_flops=cluster.peak_tflops * TERA, how="cluster.peak_tflops")
    if cluster.accelerator is Accelerator.cpu:
        return Rate(peak_flops=None, how="CPUs have no data sheet here; set cluster.peak_tflops")
    if config.precision.dtype is Dtype.fp32:
        return Rate(peak_flops=None, how="data sheets here are of half precision; set cluster.peak_tflops")
    gpu = gpu_named(cluster.gpu_type)
    if gpu is not None:
        return Rate(peak_flops=gpu.peak_flops, how=f"cluster.gpu_type={cluster.gpu_type}")
    if cluster.gpu_type is None and cluster.accelerator is Accelerator.cuda:
        assumed = gpu_named(ASSUMED_GPU)
        assert assumed is not None
        return Rate(peak_flops=assumed.peak_flops, how=f"an {ASSUMED_GPU}'s, for want of cluster.gpu_type")
    seen = "no GPU is asked for" if cluster.gpu_type is None else f"cluster.gpu_type={cluster.gpu_type} is not known"
    return Rate(peak_flops=None, how=f"{seen}; set cluster.peak_tflops")


def computing_flops(cluster: ClusterConfig) -> float:
    """What a GPU does a second while it computes in half precision; an H100, where its type is not known."""
    gpu = gpu_named(cluster.gpu_type) or gpu_named(ASSUMED_GPU)
    assert gpu is not None
    peak = gpu.peak_flops if cluster.peak_tflops is None else cluster.peak_tflops * TERA
    return cluster.efficiency * peak


def link_bytes_per_s(cluster: ClusterConfig, nodes: int) -> float:
    """What collectives move a second and GPU: between nodes, where there are several."""
    return (cluster.interconnect_gb_s if nodes > 1 else cluster.gpu_link_gb_s) * 1e9


def compute_s(setting: Setting) -> float | None:
    """Seconds of computing in a step; None without a peak.

    6N + 12·L·h·s operations a token as for the utilisation that training measures (PaLM, arXiv:2204.02311, appendix
    B); once more the forward pass, a third of that, where activations are recomputed (8/6: Korthikanti et al.,
    arXiv:2205.05198, section 6); 2 for each parameter of frozen models, and a forward pass where the objective looks
    at mismatched answers too.
    """
    config, peak = setting.config, rate(setting.config).peak_flops
    if peak is None:
        return None
    again = int(config.model.activation_checkpointing) + int(objective_of(config).needs.mismatched)
    forward = forward_flops_per_token(setting.shape, setting.row_tokens)
    each = _training_flops(setting) + again * forward + 2 * setting.frozen
    return setting.tokens * each / (setting.ranks * peak * config.cluster.efficiency)


def utilisation(setting: Setting, tokens_per_s: float) -> float | None:
    """Model FLOPs utilisation at that pace, as training measures it; None without a peak."""
    peak = rate(setting.config).peak_flops
    return None if peak is None else tokens_per_s * _training_flops(setting) / (peak * setting.ranks)


def _training_flops(setting: Setting) -> float:
    return flops_per_token(setting.shape, setting.row_tokens, setting.memory.trained_share)


def traffic_s(setting: Setting) -> float:
    """Seconds that a step's collectives take on a GPU's link.

    ZeRO (arXiv:1910.02054, section 7): gradients are reduced and scattered, and what was made of them is gathered, each
    once their size; stage 2 scatters after every micro batch, stage 3 then also gathers the weights, forward and
    backward. Each moves (n - 1) / n of its bytes over n ranks.
    """
    config, memory = setting.config, setting.memory
    width = 4 if config.precision.dtype is Dtype.fp32 else 2
    weights, gradients = width * memory.parameters, width * memory.trained
    if config.zero.stage == 3:
        moved = setting.accumulation * (2 * weights + gradients)
    elif config.zero.stage == 2:
        moved = (setting.accumulation + 1) * gradients
    else:
        moved = 2 * gradients
    return moved * (setting.ranks - 1) / setting.ranks / link_bytes_per_s(config.cluster, setting.nodes)


def overlapped(config: Config) -> bool:
    """Whether collectives go on beside computing."""
    return config.zero.overlap_comm and config.zero.stage > 0


def step_s(setting: Setting) -> float | None:
    """A step: the longer of computing and traffic where they go on side by side, else both; None without a peak."""
    computing, moving = compute_s(setting), traffic_s(setting)
    if computing is None:
        return None
    return max(computing, moving) if overlapped(setting.config) else computing + moving


def not_counted(config: Config) -> list[str]:
    """What a step or a run takes besides, in words."""
    needs, words = objective_of(config).needs, []
    if config.zero.offload_optimizer:
        words.append("the optimiser's step on the CPUs")
    if not config.data.packing and config.train.micro_batch_size != 1:
        words.append("padding")
    if needs.rollouts is not None:
        words.append("the answers that are sampled")
    if needs.reference:
        words.append("the pass over all rows before the first step")
    if config.data.eval is not None:
        words.append("evaluations")
    return words
