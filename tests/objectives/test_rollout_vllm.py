"""vLLM answers for the model in training, on two ranks and for real; skipped where it is not installed.

It wants other versions than training's own (`constraints.txt`), so that these tests are for an environment with both.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from launcher.publish import read_records
from tests.workbench import Bench, losses, make_bench, records, write_model

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
]
CASES = {
    "zero2": ["zero=zero2", "objective.options.kl=0.05"],
    "two-updates-zero3": ["zero=zero3", "objective.options.updates=2", "objective.options.loss=rloo"],
    "lora-zero3": ["zero=zero3", "adapter=lora", "adapter.r=4"],
    "one-engine-zero2": ["zero=zero2", "objective.options.vllm_tensor_parallel=2"],
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """vLLM knows no heads of 8, which the other tests' model has."""
    # vLLM starts processes of its own, and differently where the one that starts them was forked.
    bench = make_bench(tmp_path_factory.mktemp("wide"), warm=False)
    write_model(bench.root / "model", hidden_size=64, num_attention_heads=2, head_dim=32)
    return bench


def named(run: Path, name: str) -> list[float]:
    return [record[name] for record in records(run) if name in record]


def answered(run: Path) -> list[dict[str, Any]]:
    shown = read_records(run / "rollouts.jsonl")
    return [{key: value for key, value in each.items() if key != "attempt"} for each in shown]


def forget_shared_memory() -> None:
    """On CPUs, engines in parts leave segments behind whose names are always the same. They are for GPUs."""
    for segment in Path("/dev/shm").glob("-tp:0-*-cpushm_*"):
        segment.unlink()


@pytest.mark.parametrize("case", CASES)
def test_its_answers_are_the_models_own_and_a_resume_gives_them_again(wide: Bench, tmp_path: Path, case: str) -> None:
    """A function of their letters judges; the gap between what both think of a token is rounding, and stays so."""
    letters = "def reward(prompt, answer, reference):\n    return sum(map(ord, answer)) % 7\n"
    (tmp_path / "letters.py").write_text(letters)
    start = wide.train("train.max_steps=1", "zero=zero2", "model.init=random")
    wide.run("export", start.name)
    own = [
        f"model.path={start / 'export'}",
        "model.init=pretrained",
        "objective=grpo",
        f"objective.options.reward={tmp_path / 'letters.py'}",
        "objective.options.group=4",
        "objective.options.max_new_tokens=6",
        "objective.options.sampler=vllm",
        "train.max_steps=6",
        "train.eval_every=2",
        "optim.lr=1e-2",
        "schedule=constant",
        *CASES[case],
    ]
    straight = wide.train(*own)
    forget_shared_memory()
    stopped = wide.train(*own, "train.stop_at=4")
    forget_shared_memory()
    wide.run("resume", stopped.name, "train.stop_at=null", "--follow")
    forget_shared_memory()
    assert len(set(named(straight, "reward"))) > 2
    gaps = named(straight, "sampler_gap")
    assert len(gaps) == 6
    assert max(gaps) < 1e-3
    for name in ("reward", "answer_length", "sampler_gap", "grad_norm", "eval_reward"):
        assert named(stopped, name) == named(straight, name)
    assert losses(stopped) == losses(straight)
    assert answered(stopped) == answered(straight)
