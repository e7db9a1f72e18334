"""A conservative estimate of the memory of one GPU. Pure.

Model states after the ZeRO paper (arXiv:1910.02054, section 3.1), activations after Korthikanti et al.
(arXiv:2205.05198, equation 2, without the attention matrix, which none of the fused kernels keeps).
"""

from __future__ import annotations

from launcher.config.optimisers import STATE_BYTES
from launcher.config.schema import Config, Dtype, ShapeConfig
from launcher.objectives.registry import objective_of
from launcher.plan.trained import Parts, bytes_quantised, parts
from launcher.runplan import Memory

GIB = 2**30
MARGIN = 0.85
"""Share of a GPU that the plan may fill; the rest is for CUDA's context, NCCL and fragmentation."""


def plan_memory(config: Config, shape: ShapeConfig, ranks: int, micro_batch: int, frozen: int = 0) -> Memory:
    """Estimate the peak of a training step with `micro_batch` sequences of `data.seq_len` tokens.

    `frozen` parameters are held beside the model's own, and learn nothing.
    """
    counted = parts(config, shape)
    return Memory(
        parameters=counted.whole,
        trained=counted.trained,
        states_gb=(_states(config, counted, ranks) + _held(config, frozen * _compute_bytes(config), ranks)) / GIB,
        buffers_gb=_buffers(config, shape, counted) / GIB,
        activations_gb=_activations(config, shape, micro_batch) / GIB,
        available_gb=config.cluster.gpu_memory_gb,
    )


def fits(memory: Memory) -> bool:
    """Whether the estimate leaves the margin free."""
    return memory.total_gb <= MARGIN * memory.available_gb


def _compute_bytes(config: Config) -> int:
    return 4 if config.precision.dtype is Dtype.fp32 else 2


def _held(config: Config, parameters: float, ranks: int) -> float:
    """Of so many bytes of parameters, those on one GPU."""
    return 0 if config.zero.offload_param else parameters / (ranks if config.zero.stage >= 3 else 1)


def _states(config: Config, counted: Parts, ranks: int) -> float:
    """Bytes of parameters, and of what is trained the gradients and optimiser states: moments, in half precision a
    master copy, and what the parameters were at the start where they are pulled there.
    """
    weight = _compute_bytes(config)
    # What is no optimiser is told of elsewhere.
    moments = STATE_BYTES.get(config.optim.name, 8)
    optimiser = moments + (0 if weight == 4 else 4) + (4 if config.optim.pull_to_start else 0)
    zero = config.zero
    plain = (counted.whole - counted.quantised + counted.adapters) * weight
    parameters = plain + counted.quantised * bytes_quantised(double=config.adapter.double_quant)
    per_trained = (0 if zero.offload_optimizer and zero.stage >= 2 else 4 / (ranks if zero.stage >= 2 else 1)) + (
        0 if zero.offload_optimizer else optimiser / (ranks if zero.stage >= 1 else 1)
    )
    return _held(config, parameters, ranks) + counted.trained * per_trained


def _buffers(config: Config, shape: ShapeConfig, counted: Parts) -> float:
    """Bytes of reduction buckets (two when overlapped) and of the gathered layers of stage 3."""
    weight = _compute_bytes(config)
    buckets = (2 if config.zero.overlap_comm else 1) * min(config.zero.bucket_elements, counted.trained) * weight
    if config.zero.stage < 3:
        return buckets if config.zero.stage else 0
    gathered = min(config.zero.max_live_elements + config.zero.prefetch_elements, counted.whole) * weight
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
    # A teacher's outputs, in compute precision and fp32, are there with the model's.
    judged = 0 if needs.teacher is None else weight + 4
    return max(blocks + tokens * width * (2 * weight + 8 + judged), _answers(config, shape))


def _answers(config: Config, shape: ShapeConfig) -> float:
    """Bytes of keys and values, and of the next token's logits and noise, while the model answers."""
    rollouts = objective_of(config).needs.rollouts
    if rollouts is None:
        return 0
    cached = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim * _compute_bytes(config)
    return rollouts.at_once * (config.data.seq_len * cached + shape.vocab_size * 48)
