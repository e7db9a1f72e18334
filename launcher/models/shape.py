"""The architecture numbers of a model, read from its config.json. No torch, no transformers, no weights."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.config.schema import ExpertsConfig, ModelConfig, ShapeConfig
from launcher.errors import Problem
from launcher.remember import remembered

COUNT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")
"""What configs call the number of experts."""
MIXTURES = ("mixtral", "qwen3_moe", "qwen2_moe", "olmoe")
"""Families with experts whose weights are known here."""
TIED = ("gemma",)
"""Families that share embedding and head unless their config says otherwise, which it then leaves out."""


def local_config(path: str, revision: str | None) -> Path | None:
    """config.json of a model directory, or of a hub id's newest cached copy; None when it is not on this machine."""
    if Path(path).is_dir():
        return Path(path) / "config.json"
    if not (_hub_cache() / f"models--{path.replace('/', '--')}").is_dir():
        # Nothing of it was ever fetched, and asking would take longer than all else of a plan.
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(path, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it fetched, by the variables that it reads."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.path.expandvars(os.environ[name])).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


@remembered
def model_shape(model: ModelConfig) -> ShapeConfig | Problem:
    """The numbers from config.json where it is at hand, else from `model.shape`."""
    config = local_config(model.path, model.revision)
    if config is not None and config.is_file():
        return _read_shape(config)
    if looks_local(model.path):
        missing = config is not None
        return Problem(
            where="model.path",
            message=f"{config} does not exist" if missing else f"there is no folder {model.path}",
            valid="a folder with config.json, tokenizer and safetensors, or a hub id (ORG/NAME)",
        )
    if model.shape is not None:
        return model.shape
    return Problem(
        where="model.path",
        message=f"{model.path!r} is neither a folder nor a hub model cached on this machine, so it cannot be planned",
        remedy=f"download it first (hf download {model.path}), give its folder, or set model.shape",
    )


def looks_local(path: str) -> bool:
    """Whether a model path is meant as a folder rather than a hub id (ORG/NAME)."""
    return path.startswith(("/", ".", "~")) or path.count("/") != 1 or Path(path).exists()


def _read_shape(path: Path) -> ShapeConfig | Problem:
    try:
        return shape_of(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        return Problem(
            where="model.path",
            message=f"{path} is not the config of a causal language model ({type(error).__name__}: {error})",
            valid="a config.json with hidden_size, num_hidden_layers, num_attention_heads, vocab_size, …",
        )


def shape_of(document: dict[str, Any]) -> ShapeConfig:
    """The numbers in a parsed config.json; KeyError, TypeError or ValueError where it has none."""
    document = document.get("text_config", document)
    heads, family = int(document["num_attention_heads"]), str(document.get("model_type", "llama"))
    tied = document.get("tie_word_embeddings")
    return ShapeConfig(
        model_type=family,
        hidden_size=int(document["hidden_size"]),
        num_hidden_layers=int(document["num_hidden_layers"]),
        num_attention_heads=heads,
        num_key_value_heads=int(document.get("num_key_value_heads") or heads),
        head_dim=int(document.get("head_dim") or document["hidden_size"] // heads),
        intermediate_size=int(document["intermediate_size"]),
        vocab_size=int(document["vocab_size"]),
        tie_word_embeddings=family.startswith(TIED) if tied is None else bool(tied),
        experts=_experts(document, family),
    )


def _experts(document: dict[str, Any], family: str) -> ExpertsConfig | None:
    """Those of the families that transformers builds alike; ValueError of another with experts."""
    count = next((int(document[key]) for key in COUNT_KEYS if document.get(key)), 0)
    if not count:
        return None
    if family not in MIXTURES:
        raise ValueError(f"{family} has experts that are not known here; those of {', '.join(MIXTURES)} are")
    every, dense = int(document.get("decoder_sparse_step") or 1), document.get("mlp_only_layers") or []
    layers = range(int(document["num_hidden_layers"]))
    return ExpertsConfig(
        count=count,
        per_token=int(document["num_experts_per_tok"]),
        intermediate_size=int(document.get("moe_intermediate_size") or document["intermediate_size"]),
        shared_intermediate_size=int(document.get("shared_expert_intermediate_size") or 0),
        dense_layers=[layer for layer in layers if layer in dense or (layer + 1) % every],
    )


def norms_of_block(shape: ShapeConfig) -> int:
    """Norms over the residual stream's width in a block; Gemma has them before and after both halves."""
    return 4 if shape.model_type.startswith(("gemma2", "gemma3")) else 2


def norms_queries(shape: ShapeConfig) -> bool:
    """Whether queries and keys go through a norm each."""
    return shape.model_type.startswith(("qwen3", "gemma3", "olmoe"))


def biases_queries(shape: ShapeConfig) -> bool:
    """Whether queries, keys and values have a bias each."""
    return shape.model_type.startswith("qwen2")


def caps_logits(shape: ShapeConfig) -> bool:
    """Whether logits go through a soft cap."""
    return shape.model_type.startswith("gemma2")


def mixes(shape: ShapeConfig, layer: int) -> bool:
    """Whether a block has experts."""
    return shape.experts is not None and layer not in shape.experts.dense_layers


def weights(shape: ShapeConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and size of every weight of a decoder: grouped-query attention, RMSNorm, a gated MLP or experts.

    As transformers has them in memory; the experts of a block are one tensor there.
    """
    yield "model.embed_tokens.weight", (shape.vocab_size, shape.hidden_size)
    yield "model.norm.weight", (shape.hidden_size,)
    if not shape.tie_word_embeddings:
        yield "lm_head.weight", (shape.vocab_size, shape.hidden_size)
    for layer in range(shape.num_hidden_layers):
        for name, size in (*_attention(shape), *(_mixture(shape) if mixes(shape, layer) else _gated(shape))):
            yield f"model.layers.{layer}.{name}", size


def _attention(shape: ShapeConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """With the block's norms."""
    hidden = shape.hidden_size
    queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    if _fuses(shape):
        yield "self_attn.qkv_proj.weight", (queries + 2 * keys, hidden)
    else:
        for name, width in (("q", queries), ("k", keys), ("v", keys)):
            yield f"self_attn.{name}_proj.weight", (width, hidden)
            if biases_queries(shape):
                yield f"self_attn.{name}_proj.bias", (width,)
    yield "self_attn.o_proj.weight", (hidden, queries)
    if norms_queries(shape):
        # Of OLMoE over all heads at once.
        whole = shape.model_type == "olmoe"
        yield "self_attn.q_norm.weight", (queries if whole else shape.head_dim,)
        yield "self_attn.k_norm.weight", (keys if whole else shape.head_dim,)
    names = ["input_layernorm", "post_attention_layernorm"]
    if norms_of_block(shape) == 4:
        names += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for name in names:
        yield f"{name}.weight", (hidden,)


def _gated(shape: ShapeConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = shape.hidden_size, shape.intermediate_size
    if _fuses(shape):
        yield "mlp.gate_up_proj.weight", (2 * inner, hidden)
    else:
        yield "mlp.gate_proj.weight", (inner, hidden)
        yield "mlp.up_proj.weight", (inner, hidden)
    yield "mlp.down_proj.weight", (hidden, inner)


def _mixture(shape: ShapeConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A router, the experts in one tensor, and the shared one with its gate."""
    experts, hidden = shape.experts, shape.hidden_size
    assert experts is not None
    yield "mlp.gate.weight", (experts.count, hidden)
    yield "mlp.experts.gate_up_proj", (experts.count, 2 * experts.intermediate_size, hidden)
    yield "mlp.experts.down_proj", (experts.count, hidden, experts.intermediate_size)
    if experts.shared_intermediate_size:
        yield "mlp.shared_expert.gate_proj.weight", (experts.shared_intermediate_size, hidden)
        yield "mlp.shared_expert.up_proj.weight", (experts.shared_intermediate_size, hidden)
        yield "mlp.shared_expert.down_proj.weight", (hidden, experts.shared_intermediate_size)
        yield "mlp.shared_expert_gate.weight", (1, hidden)


def _fuses(shape: ShapeConfig) -> bool:
    """Whether queries, keys and values are one matrix, and so are an MLP's two halves."""
    return shape.model_type == "phi3"


@remembered
def parameter_count(shape: ShapeConfig) -> int:
    """All parameters."""
    return sum(math.prod(size) for _, size in weights(shape))


def largest_weight(shape: ShapeConfig) -> int:
    """Parameters of the largest weight: the embedding, or a block's experts."""
    experts = 0 if shape.experts is None else 2 * shape.experts.count * shape.experts.intermediate_size
    return max(shape.vocab_size, experts) * shape.hidden_size


def active_count(shape: ShapeConfig) -> int:
    """Parameters that a token goes through: of the experts, those that it is sent to."""
    if shape.experts is None:
        return parameter_count(shape)
    experts, sparse = shape.experts, shape.num_hidden_layers - len(shape.experts.dense_layers)
    idle = sparse * (experts.count - experts.per_token) * 3 * experts.intermediate_size * shape.hidden_size
    return parameter_count(shape) - idle


def flops_per_token(shape: ShapeConfig, seq_len: float, trained: float = 1.0) -> float:
    """Training FLOPs per token, forward and backward: 6N + 12·L·H·D·S (PaLM, arXiv:2204.02311, appendix B).

    N is what a token goes through, without the input embedding, which is a look-up. `seq_len` is the mean length of
    the sequences. Of the weights a share is `trained`; the others need no gradients of their own, 2 of the 6.
    """
    counted = active_count(shape) - (0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size)
    width = shape.num_attention_heads * shape.head_dim
    return (4.0 + 2.0 * trained) * counted + 12.0 * shape.num_hidden_layers * width * seq_len


def forward_flops_per_token(shape: ShapeConfig, seq_len: float) -> float:
    """FLOPs of a forward pass alone, per token: a third of training's (ibid.)."""
    return flops_per_token(shape, seq_len) / 3
