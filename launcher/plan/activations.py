"""What a forward pass leaves for the backward pass, a token at a time. Pure.

Counted tensor by tensor from what autograd saves of transformers' decoder blocks, and held against the allocator's own
record on a GPU (`python -m benchmarks.memory`). Korthikanti et al. (arXiv:2205.05198, section 4) count another block:
without a gate, with dropout and with norms that keep half precision.
"""

from __future__ import annotations

from launcher.config.schema import Attention, Config, ShapeConfig
from launcher.models.shape import caps_logits, norms_of_block, norms_queries

SQUARE_BYTES = 16
"""Of one element of the attention matrix while its block goes backwards: probabilities in fp32 and cast, and the
gradients of both and of what they came from."""


def block_bytes(config: Config, shape: ShapeConfig, weight: int, *, frozen: bool, mixes: bool = False) -> float:
    """Bytes of a token that a block keeps for its backward pass, with numbers of `weight` bytes.

    Norms keep their input in fp32, and twice in compute precision: what they scale and what comes of it, the former
    only for a scale that is not `frozen`. A gated MLP keeps the gate, what the activation makes of it, the other half
    and the product; attention its queries, keys, values and answer, and a logarithm a head. One that `mixes` has
    experts in the gated MLP's place.
    """
    queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    norm = 4 + (1 if frozen else 2) * weight
    kept: float = norms_of_block(shape) * norm * shape.hidden_size
    kept += norm * (queries + keys) if norms_queries(shape) else 0
    kept += mixture_bytes(shape, weight) if mixes else 4 * weight * shape.intermediate_size
    kept += 2 * weight * (queries + keys) + 4 * shape.num_attention_heads
    if keeps_square(config, shape, weight):
        # Keys and values again, for each query's head.
        kept += 2 * weight * queries + _kept_of_square(weight) * shape.num_attention_heads * config.data.seq_len
    return kept


def mixture_bytes(shape: ShapeConfig, weight: int) -> float:
    """Bytes of a token that experts keep: for each that it goes through, what goes in, the gated MLP's four, and what
    comes out before it is weighted; beside them the router's probabilities in fp32.

    Read from `grouped_mm_experts_forward` of transformers; not measured on a GPU. A shared expert is scaled by a gate,
    for which its answer is kept.
    """
    experts, hidden = shape.experts, shape.hidden_size
    assert experts is not None
    sent = experts.per_token * weight * (2 * hidden + 4 * experts.intermediate_size)
    shared = weight * (4 * experts.shared_intermediate_size + hidden) if experts.shared_intermediate_size else 0
    return sent + shared + 4 * experts.count


def square_bytes(config: Config, shape: ShapeConfig, weight: int) -> float:
    """Bytes of a token's row of the attention matrix that its block takes on going backwards, beside what it kept."""
    if not keeps_square(config, shape, weight):
        return 0
    return (SQUARE_BYTES - _kept_of_square(weight)) * shape.num_attention_heads * config.data.seq_len


def _kept_of_square(weight: int) -> int:
    """Bytes of an element that a block keeps: probabilities in fp32 and cast, and what masking leaves of them."""
    return 4 + (weight if weight < 4 else 0) + 1


def keeps_square(config: Config, shape: ShapeConfig, weight: int) -> bool:
    """Whether attention keeps a matrix of tokens by tokens.

    Fused kernels do not; in fp32 torch has none for fewer heads of keys than of queries.
    """
    attention = config.model.attention
    grouped = shape.num_key_value_heads < shape.num_attention_heads
    return attention is Attention.eager or (attention is Attention.sdpa and weight == 4 and grouped)


def ends_bytes(shape: ShapeConfig, weight: int) -> float:
    """Bytes of a token before the first block and after the last: the embedding, and the last norm."""
    return (4 + 3 * weight) * shape.hidden_size


def loss_bytes(shape: ShapeConfig, width: int, weight: int, *, judged: bool) -> float:
    """Bytes of a token where the loss of `width` outputs begins to go backwards, the peak of most runs.

    Log-probabilities, their gradient and the logits', all in fp32; caps keep their own outputs, and a teacher's are
    there in compute precision and in fp32.
    """
    capped = weight if caps_logits(shape) else 0
    return width * (12 + capped + (weight + 4 if judged else 0))
