"""How much of a model is trained, counted from its shape. Pure.

Counts a Llama-style decoder by the names that transformers gives its weights; where targets fit none of them, as if
every linear layer had an adapter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from launcher.config.adapter import ALL_LINEAR, AdapterConfig, AdapterKind, ends_with, lies_in
from launcher.config.schema import Config, ShapeConfig
from launcher.models.shape import norms_of_block, norms_queries
from launcher.remember import remembered

BLOCK, GROUP = 64, 256
"""bitsandbytes: weights that share a scale, and scales that share one when they are quantised too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Parameters, counted by what becomes of them."""

    whole: int
    """Of the model as it comes."""
    own: int
    """Those of them that are trained."""
    adapters: int
    """Added to it, and trained."""
    quantised: int
    """Of the model, held in 4 bits."""
    hidden: int
    """Trained ones in matrices inside the blocks."""

    @property
    def trained(self) -> int:
        """With gradients and optimiser states."""
        return self.own + self.adapters


def parts(config: Config, shape: ShapeConfig) -> Parts:
    """What becomes of the parameters of a model of this shape."""
    return _parts(config.adapter, config.model.freeze, shape)


@remembered
def _parts(adapter: AdapterConfig, freeze: Sequence[str], shape: ShapeConfig) -> Parts:
    layers = shape.num_hidden_layers
    weights = [*_once(shape), *((name, size) for layer in range(layers) for name, size in _block(shape, layer))]
    whole = sum(_count(size) for _, size in weights)
    if not adapter.used:
        frozen = [re.compile(pattern) for pattern in freeze]
        trained = [one for one in weights if not any(pattern.search(one[0]) for pattern in frozen)]
        own = sum(_count(size) for _, size in trained)
        return Parts(whole=whole, own=own, adapters=0, quantised=0, hidden=_hidden(trained))
    linear = {name.removesuffix(".weight"): size for name, size in weights if len(size) == 2 and ".layers." in name}
    head = {"lm_head": (shape.vocab_size, shape.hidden_size)}
    chosen = {
        name: size
        for name, size in {**linear, **head}.items()
        if ends_with(name, adapter.targets) or (ALL_LINEAR in adapter.targets and name in linear)
    }
    also = [one for one in weights if lies_in(one[0], adapter.train_also)]
    inner = sum(_count(size) for name, size in linear.items() if not lies_in(f"{name}.weight", adapter.train_also))
    adapted = chosen or linear
    return Parts(
        whole=whole,
        own=sum(_count(size) for _, size in also),
        adapters=sum(adapter.r * sum(size) + size[0] * adapter.dora for size in adapted.values()),
        hidden=_hidden(also) + sum(adapter.r * sum(size) for name, size in adapted.items() if ".layers." in name),
        quantised=inner if adapter.kind is AdapterKind.qlora else 0,
    )


def bytes_quantised(*, double: bool) -> float:
    """Bytes of a parameter in 4-bit NormalFloat with its share of scales (arXiv:2305.14314, section 3)."""
    scale = 1 + 4 / GROUP if double else 4
    return 0.5 + scale / BLOCK


def _hidden(weights: Iterable[tuple[str, tuple[int, ...]]]) -> int:
    return sum(_count(size) for name, size in weights if len(size) == 2 and ".layers." in name)


def _count(size: tuple[int, ...]) -> int:
    return size[0] * (size[1] if len(size) == 2 else 1)


def _once(shape: ShapeConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (shape.vocab_size, shape.hidden_size)
    yield "model.norm.weight", (shape.hidden_size,)
    if not shape.tie_word_embeddings:
        yield "lm_head.weight", (shape.vocab_size, shape.hidden_size)


def _block(shape: ShapeConfig, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    sizes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    if norms_of_block(shape) == 4:
        sizes |= {"pre_feedforward_layernorm": (hidden,), "post_feedforward_layernorm": (hidden,)}
    if norms_queries(shape):
        sizes |= {"self_attn.q_norm": (shape.head_dim,), "self_attn.k_norm": (shape.head_dim,)}
    for name, size in sizes.items():
        yield f"model.layers.{layer}.{name}.weight", size
