"""Sums with digits: a task whose answers can be checked, and a model that knows its form and little else."""

from __future__ import annotations

import json
import random
from pathlib import Path

from launcher.config.search import shipped
from tests.workbench import Bench

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"]
TRAIN, HELD_OUT = 400, 100
REWARD = f"objective.options.reward={shipped('recipes') / 'rewards' / 'numbers.py'}"


def row(question: str, answer: int) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": str(answer)}]
    return json.dumps({"messages": messages}) + "\n"


def on_sums(bench: Bench, folder: Path) -> list[str]:
    """Overrides of a run on sums, from a model that is right a fifth of the time: it has learnt from bad examples."""
    chance = random.Random(1)
    asked = [(f"{one} {two} {a}+{b}", a + b) for one in WORDS for two in WORDS for a in range(5) for b in range(5)]
    chance.shuffle(asked)
    parts = {"train": asked[:TRAIN], "held_out": asked[TRAIN : TRAIN + HELD_OUT]}
    for name, questions in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(row(*question) for question in questions))
    bad = [row(question, (right + chance.randrange(5)) % 10) for question, right in asked[:TRAIN] for _ in range(3)]
    (folder / "bad.jsonl").write_text("".join(bad))
    warm = bench.train(
        f"data.train={folder / 'bad.jsonl'}",
        "data.eval=null",
        "data.clean.duplicates=keep",
        "train.max_steps=800",
        "train.global_batch_size=32",
        "optim.lr=5e-3",
        "zero=zero0",
    )
    bench.run("export", warm.name)
    return [
        f"model.path={warm / 'export'}",
        "model.init=pretrained",
        f"data.train={folder / 'train.jsonl'}",
        f"data.eval={folder / 'held_out.jsonl'}",
        "objective=grpo",
        REWARD,
        "objective.options.max_new_tokens=4",
        "objective.options.eval_temperature=1",
        "train.global_batch_size=64",
        "train.micro_batch_size=32",
    ]
