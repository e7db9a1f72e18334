"""The architecture numbers of a model, read from its config.json. No torch, no transformers, no weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from launcher.config.schema import ModelConfig, ShapeConfig
from launcher.errors import Problem
from launcher.remember import remembered


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
    heads = int(document["num_attention_heads"])
    return ShapeConfig(
        model_type=str(document.get("model_type", "llama")),
        hidden_size=int(document["hidden_size"]),
        num_hidden_layers=int(document["num_hidden_layers"]),
        num_attention_heads=heads,
        num_key_value_heads=int(document.get("num_key_value_heads") or heads),
        head_dim=int(document.get("head_dim") or document["hidden_size"] // heads),
        intermediate_size=int(document["intermediate_size"]),
        vocab_size=int(document["vocab_size"]),
        tie_word_embeddings=bool(document.get("tie_word_embeddings", False)),
    )


def norms_of_block(shape: ShapeConfig) -> int:
    """Norms over the residual stream's width in a block; Gemma has them before and after both halves."""
    return 4 if shape.model_type.startswith(("gemma2", "gemma3")) else 2


def norms_queries(shape: ShapeConfig) -> bool:
    """Whether queries and keys go through a norm each, over a head's width."""
    return shape.model_type.startswith(("qwen3", "gemma3"))


def caps_logits(shape: ShapeConfig) -> bool:
    """Whether logits go through a soft cap."""
    return shape.model_type.startswith("gemma2")


def parameter_count(shape: ShapeConfig) -> int:
    """Parameters of a Llama-style decoder: gated MLP, grouped-query attention, RMSNorm, no biases."""
    norms = norms_of_block(shape) * shape.hidden_size + (2 * shape.head_dim if norms_queries(shape) else 0)
    attention = shape.hidden_size * shape.head_dim * (2 * shape.num_attention_heads + 2 * shape.num_key_value_heads)
    block = attention + 3 * shape.hidden_size * shape.intermediate_size + norms
    embeddings = shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    return shape.num_hidden_layers * block + embeddings + shape.hidden_size


def flops_per_token(shape: ShapeConfig, seq_len: float, trained: float = 1.0) -> float:
    """Training FLOPs per token, forward and backward: 6N + 12·L·H·D·S (PaLM, arXiv:2204.02311, appendix B).

    N leaves out the input embedding, which is a look-up. `seq_len` is the mean length of the sequences. Of the weights
    a share is `trained`; the others need no gradients of their own, which are 2 of the 6.
    """
    weights = parameter_count(shape) - (0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size)
    width = shape.num_attention_heads * shape.head_dim
    return (4.0 + 2.0 * trained) * weights + 12.0 * shape.num_hidden_layers * width * seq_len


def forward_flops_per_token(shape: ShapeConfig, seq_len: float) -> float:
    """FLOPs of a forward pass alone, per token: a third of training's (ibid.)."""
    return flops_per_token(shape, seq_len) / 3
