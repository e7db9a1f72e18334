"""What tests that train need: a tiny model, tiny data, and the launcher as a person calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.warm import Popen

VOCABULARY = 300
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def write_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer with a chat template without generation markers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def write_model(folder: Path, **changes: Any) -> Path:
    """A model directory without weights: config and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA, **changes}))
    write_tokenizer(folder)
    return folder


def write_rows(path: Path, count: int, offset: int = 0) -> Path:
    """Conversations of different lengths, all different."""
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
    with path.open("w") as file:
        for index in range(offset, offset + count):
            answer = " ".join(words[(index * 7 + place) % 10] for place in range(1 + index % 5)) + f" {index}"
            messages = [{"role": "user", "content": f"row {index}"}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """A folder to work in, with model and data."""

    root: Path
    """Working directory of every command."""
    environment: Mapping[str, str]
    """Added to the process's environment."""
    warm: bool = True
    """Whether processes are forked from one that has imported everything, where that can be done."""

    @property
    def base(self) -> list[str]:
        """Recipe and overrides of a small run on this machine."""
        return [
            "demo",
            f"model.path={self.root / 'model'}",
            f"data.train={self.root / 'train.jsonl'}",
            f"data.eval={self.root / 'held_out.jsonl'}",
            "data.seq_len=64",
            "train.global_batch_size=8",
            "train.max_steps=8",
            "train.eval_every=null",
            "checkpoint.every_steps=null",
            "tracking=disabled",
        ]

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`launcher ARGUMENTS…`; with `check`, its failure fails the test with what it printed."""
        result = self.popen(*arguments)
        output, errors = result.communicate()
        finished = subprocess.CompletedProcess(arguments, result.returncode, output, errors)
        if check:
            assert finished.returncode == 0, f"launcher {' '.join(arguments)}\n{output}\n{errors}\n{self.rank_logs()}"
        return finished

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """`launcher ARGUMENTS…`, not waited for."""
        start = Popen if self.warm else subprocess.Popen
        return start(
            [sys.executable, "-m", "launcher.cli.main", *arguments],
            cwd=self.root,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def rank_logs(self) -> str:
        """The end of the newest run's logs, for a failed test's report."""
        logs = sorted(self.root.glob("runs/*/attempts/*/*.log"), key=lambda path: path.stat().st_mtime)[-4:]
        return "\n".join(f"--- {log}\n{log.read_text()[-3000:]}" for log in logs)

    def train(self, *overrides: str) -> Path:
        """Submit, follow to the end, and give the run directory."""
        self.run("submit", *self.base, *overrides, "--follow")
        return self.last()

    def last(self) -> Path:
        """Directory of the newest run."""
        status = json.loads(self.run("status", "last", "--json").stdout)
        return self.root / "runs" / str(status["run_id"])


def make_bench(root: Path, *, warm: bool = True, **environment: str) -> Bench:
    """A folder with a model, 100 training and 10 held-out rows."""
    write_model(root / "model")
    write_rows(root / "train.jsonl", 100)
    write_rows(root / "held_out.jsonl", 10, offset=1000)
    return Bench(root=root, environment={"LAUNCHER_RUNS_ROOT": "runs", **environment}, warm=warm)


def records(run: Path) -> Sequence[dict[str, Any]]:
    """All of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> dict[int, float]:
    """Loss by step; of a step that was done twice, the later."""
    return {record["step"]: record["loss"] for record in records(run) if "loss" in record}


def held_out(run: Path) -> dict[int, float]:
    """Held-out loss by step."""
    return {record["step"]: record["eval_loss"] for record in records(run) if "eval_loss" in record}
