"""What others published of the memory that training took, against what our counting says of their settings.

    python -m benchmarks.published

benchmarks/measured/memory_published.json has the runs of three sources of which all settings are said, with kernels of
the usual kind, and whose figure is torch's own peak of allocated memory: torchtune's README, the table of
fms-acceleration (Hugging Face's Trainer, alone and under FSDP), and litgpt's. Each row has its source and the words it
was taken from. These frameworks hold weights, gradients and AdamW's moments in bfloat16, 8 bytes a parameter; a step of
torch's AdamW takes 2 more for a while. Activations and adapters are counted by the plan's own functions. Needs no GPU.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from launcher.config.compose import compose
from launcher.config.schema import Config, ShapeConfig
from launcher.config.search import search_path
from launcher.decode import decode
from launcher.models.shape import shape_of
from launcher.plan.activations import block_bytes, ends_bytes, loss_bytes
from launcher.plan.memory import GIB
from launcher.plan.trained import bytes_quantised, parts

FILE = Path(__file__).parent / "measured" / "memory_published.json"
ADAPTER_BYTES = 16
"""Of a parameter of an adapter, which peft keeps in fp32, with its gradient and moments."""
SHAPES = {
    # Width, blocks, heads, heads of keys and values, width of the MLP, vocabulary.
    "llama 3.2 3B": (3072, 28, 24, 8, 8192, 128256),
    "mistral 7B": (4096, 32, 32, 8, 14336, 32000),
    "llama 2 7B": (4096, 32, 32, 32, 11008, 32000),
    "llama 2 13B": (5120, 40, 40, 40, 13824, 32000),
    "llama 2 70B": (8192, 80, 64, 8, 28672, 32000),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """One run of others."""

    model: str
    """Of `SHAPES`."""
    method: str
    """full, lora or qlora."""
    gpus: int
    """More than one: fully sharded (FSDP)."""
    micro_batch: int
    """Sequences of a GPU at a time."""
    seq_len: int
    """Tokens of each."""
    recomputed: bool
    """Activation checkpointing."""
    accumulates: bool
    """Whether gradients are there while a loss is."""
    chunked_loss: bool
    """Whether the loss is taken of a few tokens at a time."""
    upcast: bool
    """Whether peft's preparation for k-bit training holds the residual stream, norms and embeddings in fp32."""
    double_quant: bool
    """Whether the scales of 4-bit weights are quantised, too."""
    r: int
    """Rank of the adapters."""
    targets: list[str]
    """What has them."""
    peak_gib: float
    """What was published."""
    source: str
    """Where."""
    quote: str
    """The words."""


def published() -> list[Published]:
    """The rows of the file."""
    return [decode(Published, row) for row in json.loads(FILE.read_text(encoding="utf-8"))]


def predicted(run: Published) -> float:
    """GiB on one GPU at the fullest moment."""
    config, shape = _settings(run)
    counted = parts(config, shape)
    full = run.method == "full"
    once = shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    inner = counted.whole - once
    rest = once * (4 if run.upcast else 2)
    weights = inner * bytes_quantised(double=run.double_quant) + rest if run.method == "qlora" else 2 * counted.whole
    states = weights + (4 * counted.whole if full else ADAPTER_BYTES * counted.adapters)
    gradients = 2 * counted.whole if full else 0
    # Of the layer that is there whole, the next one on its way, and the ends, which make a unit of their own.
    gathered = 0.0
    if run.gpus > 1:
        gathered = (2 * inner / shape.num_hidden_layers / counted.whole + once / counted.whole) * weights
    tokens = run.micro_batch * run.seq_len
    block = tokens * block_bytes(config, shape, 2, frozen=not full)
    stream = tokens * shape.hidden_size * (4 if run.upcast else 2)
    kept = shape.num_hidden_layers * (stream if run.recomputed else block) + tokens * ends_bytes(shape, 2)
    # In chunks: logits and their gradients in compute precision.
    width = shape.vocab_size
    loss = tokens * (4 * width if run.chunked_loss else loss_bytes(shape, width, 2, judged=False))
    before = (states + (gradients if run.accumulates else 0)) / run.gpus + gathered + kept
    step = (states + gradients + (2 * counted.whole if full else 0)) / run.gpus
    return max(before + max(loss, block if run.recomputed else 0), step) / GIB


def _settings(run: Published) -> tuple[Config, ShapeConfig]:
    width, layers, heads, groups, wide, words = SHAPES[run.model]
    document: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": wide,
        "vocab_size": words,
        "tie_word_embeddings": "3.2" in run.model,
    }
    config = _composed(adapted=run.method != "full")
    if run.method != "full":
        config = replace(config, adapter=replace(config.adapter, r=run.r, targets=run.targets))
    return replace(config, data=replace(config.data, seq_len=run.seq_len)), shape_of(document)


@cache
def _composed(*, adapted: bool) -> Config:
    composed = compose("lora_llama3_8b" if adapted else "sft_llama3_8b", [], search_path(None, Path.cwd()))
    assert composed.config is not None, composed.problems
    return composed.config


def main() -> None:
    """Print the table."""
    errors = []
    for run in published():
        expected = predicted(run)
        errors.append(abs(expected / run.peak_gib - 1))
        kept = "recomputed" if run.recomputed else "kept"
        said = f"{run.model} {run.method}, {run.gpus} GPU, {run.micro_batch} × {run.seq_len:,}, {kept}"
        print(
            f"{said:<50} {run.peak_gib:6.2f} GiB, predicted {expected:6.2f}, {expected / run.peak_gib - 1:+6.1%}  "
            f"{run.source.split('@')[0]}"
        )
    print(f"{len(errors)} published runs: error {median(errors):.1%} in the median, {max(errors):.1%} at most")


if __name__ == "__main__":
    main()
