"""A reward model that a run has trained judges the answers of another run's model, which learns what it prefers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from launcher.publish import read_records
from tests.objectives.rows import BETTER, WORSE, on, pair, said
from tests.workbench import Bench, records

pytestmark = pytest.mark.train


def unsure(number: int) -> dict[str, object]:
    """A row whose answer is a good one or a bad one by chance."""
    row: dict[str, Any] = said(number)
    words = WORSE if number * 7 % 3 == 0 else BETTER
    row["messages"][1]["content"] = f"{words[number % 3]} {number}"
    return row


def bad_share(run: Path, steps: range) -> float:
    """Of the answers that were shown, how many begin as those that the reward model was taught to reject."""
    shown = [row["answer"] for row in read_records(run / "rollouts.jsonl") if row["step"] in steps]
    return sum(answer.strip()[:1] == "n" for answer in shown) / len(shown)


def scored_again(run: Path, judge: Path) -> list[tuple[float, float]]:
    """Rewards of the answers that were shown, and what transformers' model makes of the conversations as rows are."""
    tokenizer = AutoTokenizer.from_pretrained(judge)
    model = AutoModelForSequenceClassification.from_pretrained(judge, dtype=torch.float32).eval()
    found = []
    for row in read_records(run / "rollouts.jsonl"):
        turns = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
        shown = tokenizer.apply_chat_template(turns, tokenize=False)
        ids = tokenizer(shown, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            # transformers looks past the token that pads, which here is the one that ends a turn.
            hidden = model.model(input_ids=ids).last_hidden_state[0, -1]
            found.append((row["reward"], model.score(hidden).item()))
    return found


def test_answers_become_what_a_reward_model_was_taught_to_prefer(bench: Bench, tmp_path: Path) -> None:
    for name in ("pairs", "unsure"):
        (tmp_path / name).mkdir()
    judge = bench.train(
        *on(tmp_path / "pairs", pair), "objective=reward", "optim.lr=5e-3", "train.max_steps=60", "zero=zero2"
    )
    warm = bench.train(
        *on(tmp_path / "unsure", unsure), "optim.lr=5e-3", "train.max_steps=150", "zero=zero0", "data.eval=null"
    )
    for run in (judge, warm):
        bench.run("export", run.name)
    own = [
        *(f"model.path={warm / 'export'}", "model.init=pretrained", "objective=grpo", "zero=zero3"),
        *on(tmp_path / "unsure", unsure),
        *(f"objective.options.reward={judge / 'export'}", "objective.options.max_new_tokens=12"),
        *("objective.options.eval_temperature=1", "train.global_batch_size=32", "train.micro_batch_size=16"),
        *("optim.lr=1e-3", "schedule=constant", "train.max_steps=40", "train.eval_every=20"),
    ]
    straight = bench.train(*own)
    assert not (straight / "reward.py").exists()
    held_out = [record["eval_reward"] for record in records(straight) if "eval_reward" in record]
    assert held_out[-1] > held_out[0] + 1
    agreed = [abs(reward - expected) < 1e-3 for reward, expected in scored_again(straight, judge / "export")]
    # Not those that were cut, nor those whose letters are other tokens when they are read again.
    assert sum(agreed) > 0.8 * len(agreed)
    # In a few steps it has found out what the score likes; words that were never in a pair among it.
    assert bad_share(straight, range(4)) > 0.1
    assert bad_share(straight, range(31, 41)) < 0.05
    stopped = bench.train(*own, "train.stop_at=20")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    told = [[record for record in records(run) if "reward" in record] for run in (straight, stopped)]
    assert [(each["loss"], each["reward"]) for each in told[0]] == [(each["loss"], each["reward"]) for each in told[1]]


def test_what_gives_no_score_is_refused_before_anything_is_queued(bench: Bench, tmp_path: Path) -> None:
    grpo = ("objective=grpo", "objective.options.max_new_tokens=12")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    refused = bench.run("plan", *bench.base, *grpo, f"objective.options.reward={other}", check=False)
    assert refused.returncode == 2
    assert "LlamaForCausalLM" in refused.stderr
    assert "gives no score" in refused.stderr
    refused = bench.run("plan", *bench.base, *grpo, f"objective.options.reward={tmp_path / 'none'}", check=False)
    assert "is no folder of a model" in refused.stderr
