"""A conservative estimate of the memory of one GPU. Pure.

Model states after the ZeRO paper (arXiv:1910.02054, section 3.1), activations after Korthikanti et al.
(arXiv:2205.05198, equation 2, without the attention matrix, which none of the fused kernels keeps).
"""

from __future__ import annotations

from launcher.config.optimisers import STATE_BYTES
from launcher.config.schema import Config, Dtype, ShapeConfig
from launcher.models.shape import parameter_count
from launcher.objectives.registry import objective_of
from launcher.runplan import Memory

GIB = 2**30
MARGIN = 0.85
"""Share of a GPU that the plan may fill; the rest is for CUDA's context, NCCL and fragmentation."""


def plan_memory(config: Config, shape: ShapeConfig, ranks: int, micro_batch: int) -> Memory:
    """Estimate the peak of a training step with `micro_batch` sequences of `data.seq_len` tokens."""
    parameters = parameter_count(shape)
    return Memory(
        parameters=parameters,
        states_gb=_states(config, parameters, ranks) / GIB,
        buffers_gb=_buffers(config, shape) / GIB,
        activations_gb=_activations(config, shape, micro_batch) / GIB,
        available_gb=config.cluster.gpu_memory_gb,
    )


def fits(memory: Memory) -> bool:
    """Whether the estimate leaves the margin free."""
    return memory.total_gb <= MARGIN * memory.available_gb


def _compute_bytes(config: Config) -> int:
    return 4 if config.precision.dtype is Dtype.fp32 else 2


def _states(config: Config, parameters: int, ranks: int) -> float:
    """Bytes of parameters, gradients and optimiser states (moments and, in half precision, a master copy)."""
    weight = _compute_bytes(config)
    # What is no optimiser is told of elsewhere.
    optimiser = STATE_BYTES.get(config.optim.name, 8) + (0 if weight == 4 else 4)
    zero = config.zero
    per_parameter = (
        (0 if zero.offload_param else weight / (ranks if zero.stage >= 3 else 1))
        + (0 if zero.offload_optimizer and zero.stage >= 2 else 4 / (ranks if zero.stage >= 2 else 1))
        + (0 if zero.offload_optimizer else optimiser / (ranks if zero.stage >= 1 else 1))
    )
    return parameters * per_parameter


def _buffers(config: Config, shape: ShapeConfig) -> float:
    """Bytes of reduction buckets (two when overlapped) and of the gathered layers of stage 3."""
    weight = _compute_bytes(config)
    parameters = parameter_count(shape)
    buckets = (2 if config.zero.overlap_comm else 1) * min(config.zero.bucket_elements, parameters) * weight
    if config.zero.stage < 3:
        return buckets if config.zero.stage else 0
    gathered = min(config.zero.max_live_elements + config.zero.prefetch_elements, parameters) * weight
    largest = shape.vocab_size * shape.hidden_size * weight
    return buckets + max(gathered, largest)


def _activations(config: Config, shape: ShapeConfig, micro_batch: int) -> float:
    """Bytes kept for the backward pass, and of the head's outputs in compute precision, in fp32 and their gradient."""
    weight = _compute_bytes(config)
    needs = objective_of(config).needs
    width = shape.vocab_size if needs.head is None else needs.head.outputs
    tokens = micro_batch * config.data.seq_len * needs.learns.rows_per_example
    block = tokens * (16 * shape.hidden_size + 4 * shape.intermediate_size) * weight
    kept = tokens * shape.hidden_size * weight
    layers = shape.num_hidden_layers
    blocks = layers * kept + block if config.model.activation_checkpointing else layers * block
    return blocks + tokens * width * (2 * weight + 8)
