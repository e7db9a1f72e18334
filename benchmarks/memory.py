"""What a GPU holds at most while it trains, against what `launcher plan` says of it, over a grid of settings.

    python -m benchmarks.memory [--at-once 4] [--only WORDS] [--json FILE | --measured FILE]

One rank a setting, random weights, three optimiser steps on full rows. Measured is `torch.cuda.max_memory_allocated`;
predicted is the plan's estimate. Prints a line for each setting, and the median and the largest error.
Needs a GPU and the demo's data (`make setup`, or LAUNCHER_DEMO_DATA); with `--measured`, neither: what was measured
before (benchmarks/measured/memory_h200.json) is held against the estimates of today.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.alone import join, own_plan, start, stepper
from launcher.config.compose import compose
from launcher.config.search import search_path
from launcher.models.shape import shape_of
from launcher.plan.memory import plan_memory
from launcher.runplan import RunPlan

STEPS = 3
ROWS = 64
WORDS_A_ROW = 12_000
"""More than the longest row of the grid has tokens."""


def _llama(width: int, layers: int, heads: int, groups: int, wide: int, words: int, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": width // heads,
        "intermediate_size": wide,
        "vocab_size": words,
        "max_position_embeddings": 16384,
        "tie_word_embeddings": False,
        **more,
    }


MODELS = {
    "llama 0.2B": _llama(1024, 8, 16, 8, 2816, 32000),
    "llama 0.9B": _llama(2048, 16, 32, 32, 5632, 32000),
    "llama 3.2 1B": _llama(2048, 16, 32, 8, 8192, 128256, tie_word_embeddings=True),
    "llama 3.2 3B": _llama(3072, 28, 24, 8, 8192, 128256, tie_word_embeddings=True),
    "qwen3 0.6B": _llama(1024, 28, 16, 8, 3072, 151936, tie_word_embeddings=True)
    | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 128},
    "mistral 1B": _llama(2048, 14, 32, 8, 7168, 32768)
    | {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    "phi3 0.8B": _llama(1536, 20, 24, 24, 6144, 32064)
    | {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "pad_token_id": 0, "sliding_window": None},
    "gemma2 0.7B": _llama(1152, 13, 4, 2, 6912, 256000, tie_word_embeddings=True)
    | {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "head_dim": 256},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One row of the grid."""

    model: str
    """Of `MODELS`."""
    stage: int
    """ZeRO."""
    micro: int
    """Sequences at a time."""
    length: int
    """Tokens of each."""
    recompute: bool
    """Activation checkpointing."""
    more: tuple[str, ...] = field(default=())
    """Further overrides."""

    @property
    def name(self) -> str:
        """For people."""
        kept = "recomputed" if self.recompute else "kept"
        words = f"{self.model}, ZeRO {self.stage}, {self.micro} × {self.length:,}, {kept}"
        return ", ".join((words, *self.more))


def grid() -> list[Setting]:
    """The settings."""
    rows: list[tuple[Any, ...]] = [
        ("llama 0.9B", 3, 4, 2048, True),
        ("llama 0.9B", 3, 2, 2048, False),
        ("llama 0.9B", 2, 4, 2048, True),
        ("llama 0.9B", 2, 2, 2048, False),
        ("llama 0.9B", 1, 4, 2048, True),
        ("llama 0.9B", 0, 2, 2048, True),
        ("llama 0.9B", 3, 1, 8192, True),
        ("llama 0.9B", 3, 2, 4096, True, "data.packing=true"),
        ("llama 0.9B", 3, 2, 2048, False, "data.packing=true"),
        ("llama 3.2 1B", 3, 4, 2048, True),
        ("llama 3.2 1B", 2, 1, 2048, False),
        ("llama 3.2 1B", 3, 1, 8192, True),
        ("qwen3 0.6B", 3, 4, 2048, True),
        ("qwen3 0.6B", 2, 2, 1024, False),
        ("qwen3 0.6B", 3, 2, 2048, True, "zero.offload_optimizer=true"),
        ("mistral 1B", 3, 4, 2048, True, "model.attention=eager"),
        ("mistral 1B", 3, 2, 4096, False),
        ("phi3 0.8B", 3, 4, 2048, True),
        ("gemma2 0.7B", 3, 2, 1024, True, "model.attention=eager"),
        ("llama 3.2 3B", 3, 2, 4096, True),
        ("mistral 1B", 2, 8, 2048, True, "adapter=lora"),
        ("llama 3.2 1B", 3, 4, 2048, True, "adapter=lora"),
        ("llama 3.2 1B", 2, 4, 2048, False, "adapter=lora"),
        ("qwen3 0.6B", 2, 4, 2048, True, "zero.overlap_comm=false"),
        ("mistral 1B", 2, 4, 1024, False, "model.attention=eager"),
        ("llama 0.2B", 2, 4, 2048, True, "precision=fp32"),
        ("llama 0.2B", 3, 16, 512, False),
        ("llama 0.2B", 1, 32, 256, False, "optim=lion"),
    ]
    names = ("model", "stage", "micro", "length", "recompute")
    return [Setting(**dict(zip(names, row, strict=False)), more=tuple(row[len(names) :])) for row in rows]


def main() -> int:
    """Measure each setting in a process of its own, some side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--only", default="", help="settings whose name has these words")
    parser.add_argument("--json", type=Path, help="keep what was found there")
    parser.add_argument("--measured", type=Path, help="measure nothing: take what was kept there")
    parser.add_argument("--setting", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    plan = own_plan()
    if plan is not None:
        measure(plan)
    settings = grid()
    if options.setting is not None:
        with tempfile.TemporaryDirectory() as folder:
            return start(Path(folder), 1, _with_files(settings[options.setting], Path(folder)))
    todo = [place for place, setting in enumerate(settings) if options.only in setting.name]
    if options.measured is not None:
        kept = {row["setting"]: row for row in json.loads(options.measured.read_text(encoding="utf-8"))}
        found = [_told(settings[place], kept[settings[place].name]) for place in todo if settings[place].name in kept]
    else:
        with ThreadPoolExecutor(options.at_once) as pool:
            found = [row for row in pool.map(lambda place: _one(place, settings[place]), todo) if row is not None]
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    errors = [abs(predicted(settings[place]) / row["peak_gib"] - 1) for place, row in zip(todo, found, strict=False)]
    if errors:
        print(f"{len(errors)} settings: error {median(errors):.1%} in the median, {max(errors):.1%} at most")
    return int(len(found) < len(todo))


def predicted(setting: Setting) -> float:
    """GiB, by the plan's estimate."""
    composed = compose("demo", overrides(setting), search_path(None, Path.cwd()))
    assert composed.config is not None, composed.problems
    shape = shape_of(MODELS[setting.model])
    return plan_memory(composed.config, shape, ranks=1, micro_batch=setting.micro).total_gb


def _one(place: int, setting: Setting) -> dict[str, Any] | None:
    command = [sys.executable, "-m", "benchmarks.memory", "--setting", str(place)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in answer.stdout.splitlines() if line.startswith("{")]
    if not lines:
        print(f"{setting.name}: {answer.stderr.strip()[-600:]}", flush=True)
        return None
    return _told(setting, {"setting": setting.name, **json.loads(lines[-1])})


def _told(setting: Setting, row: dict[str, Any]) -> dict[str, Any]:
    """The row, once it has been told of."""
    expected = predicted(setting)
    error = expected / row["peak_gib"] - 1
    print(
        f"{setting.name}: {row['peak_gib']:.2f} GiB ({row['built_gib']:.2f} before the first step, "
        f"{row['reserved_gib']:.2f} reserved), predicted {expected:.2f}, {error:+.1%}",
        flush=True,
    )
    return row


def _with_files(setting: Setting, folder: Path) -> list[str]:
    """`overrides`, with model and rows in `folder`."""
    demo = Path(os.environ.get("LAUNCHER_DEMO_DATA", "demo_data"))
    shutil.copytree(demo / "model", folder / "model")
    (folder / "model" / "config.json").write_text(json.dumps(MODELS[setting.model]))
    if _adapted(setting):
        _write_weights(folder / "model")
    _write_rows(folder / "rows.jsonl")
    return [f"model.path={folder}/model", f"data.train={folder}/rows.jsonl", "data.eval=null", *overrides(setting)]


def _adapted(setting: Setting) -> bool:
    return any(word.startswith("adapter=") for word in setting.more)


def overrides(setting: Setting) -> list[str]:
    """How the setting is asked for, but for the files."""
    return [
        f"model.init={'pretrained' if _adapted(setting) else 'random'}",
        f"model.activation_checkpointing={str(setting.recompute).lower()}",
        f"data.seq_len={setting.length}",
        f"data.overlong={'split' if 'data.packing=true' in setting.more else 'truncate_right'}",
        "data.clean.duplicates=keep",
        f"zero=zero{setting.stage}",
        "precision=bf16",
        "cluster.gpu_memory_gb=140",
        f"train.micro_batch_size={setting.micro}",
        f"train.global_batch_size={setting.micro}",
        f"train.max_steps={STEPS}",
        *setting.more,
    ]


def _write_weights(folder: Path) -> None:
    """Random ones, in a file: adapters stand on no others."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    for old in folder.glob("*.safetensors*"):
        old.unlink()
    config = AutoConfig.from_pretrained(folder)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def _write_rows(path: Path) -> None:
    draw = random.Random(1)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(3, 8))) for _ in range(500)]
    with path.open("w", encoding="utf-8") as file:
        for _ in range(ROWS):
            text = " ".join(draw.choices(words, k=WORDS_A_ROW))
            file.write(json.dumps({"prompt": "", "completion": text}) + "\n")


def measure(plan: RunPlan) -> None:
    """The one rank of a setting; prints what it found as JSON."""
    import torch

    if not torch.cuda.is_available():
        print("torch sees no GPU here: what one holds cannot be measured", file=sys.stderr)
        os._exit(1)
    ranks, device = join(plan)
    from launcher.train.engine import build_engine

    engine = build_engine(plan, device, None)
    built = torch.cuda.memory_allocated(device)
    gib = 2**30
    peaks: dict[str, float] = {}
    left: dict[str, float] = {}

    def look(part: str) -> None:
        torch.cuda.synchronize(device)
        peaks[part] = max(peaks.get(part, 0.0), torch.cuda.max_memory_allocated(device) / gib)
        left[part] = torch.cuda.memory_allocated(device) / gib
        torch.cuda.reset_peak_memory_stats(device)

    torch.cuda.reset_peak_memory_stats(device)
    step = stepper(plan, engine, ranks, device, look)
    for _ in range(STEPS):
        step()
    answer = {
        "gpu": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "built_gib": round(built / gib, 3),
        "peak_gib": round(max(peaks.values()), 3),
        "peaks_gib": {part: round(value, 3) for part, value in peaks.items()},
        "left_gib": {part: round(value, 3) for part, value in left.items()},
        "reserved_gib": round(torch.cuda.max_memory_reserved(device) / gib, 3),
    }
    print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
