"""A model learns from its own answers on two ranks, also to questions it was never asked; and resumes bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launcher.publish import read_records
from tests.objectives.sums import on_sums
from tests.workbench import Bench, losses, records

pytestmark = pytest.mark.train

STEPS = 200


@pytest.fixture(scope="module")
def sums(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return on_sums(bench, tmp_path_factory.mktemp("sums"))


def named(run: Path, name: str) -> list[float]:
    return [record[name] for record in records(run) if name in record]


def answered(run: Path) -> list[dict[str, Any]]:
    """Rows of rollouts.jsonl without what tells attempts apart."""
    return [
        {key: value for key, value in shown.items() if key != "attempt"}
        for shown in read_records(run / "rollouts.jsonl")
    ]


@pytest.mark.parametrize(
    "more",
    [["zero=zero2"], ["zero=zero3", "objective.options.loss=dapo", "objective.options.kl=0.01"]],
    ids=["grpo-zero2", "dapo-zero3"],
)
def test_it_learns_from_rewards_alone(bench: Bench, sums: list[str], more: list[str]) -> None:
    run = bench.train(*sums, *more, f"train.max_steps={STEPS}", "train.eval_every=80", "optim.lr=2e-3")
    rewards, held_out = named(run, "reward"), named(run, "eval_reward")
    assert sum(rewards[:5]) / 5 < 0.4
    assert sum(rewards[-10:]) / 10 > 0.8
    assert held_out[0] < 0.3
    assert held_out[-1] > 0.8
    assert named(run, "eval_loss") == [-reward for reward in held_out]
    assert all(1 <= length <= 4 for length in named(run, "answer_length"))
    if "kl" in " ".join(more):
        divergence = named(run, "kl")
        assert divergence[0] == pytest.approx(0, abs=1e-6)
        assert divergence[-1] > 0.01
    shown = answered(run)
    assert {entry["step"] for entry in shown} == set(range(STEPS + 1))
    assert all(entry["reward"] in (0, 1) and "+" in entry["question"] for entry in shown)


CASES = {
    "two-updates-zero2": ["objective.options.updates=2", "objective.options.loss=dr_grpo", "zero=zero2"],
    "rloo-zero3": ["objective.options.loss=rloo", "zero=zero3"],
}


@pytest.mark.parametrize("case", CASES)
def test_it_resumes_bit_for_bit(bench: Bench, tmp_path: Path, case: str) -> None:
    """Of a model from random weights, whose answers are gibberish that a function of their letters judges."""
    (tmp_path / "letters.py").write_text(
        "def reward(prompt, answer, reference):\n    return sum(map(ord, answer)) % 7\n"
    )
    own = [
        *CASES[case],
        "objective=grpo",
        f"objective.options.reward={tmp_path / 'letters.py'}",
        "objective.options.group=4",
        "objective.options.max_new_tokens=6",
        "objective.options.kl=0.05",
        "train.max_steps=6",
        "train.eval_every=2",
        "optim.lr=1e-2",
        "schedule=constant",
    ]
    straight = bench.train(*own)
    stopped = bench.train(*own, "train.stop_at=4")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert len(set(named(straight, "reward"))) > 2
    for name in ("reward", "answer_length", "clip_fraction", "kl", "grad_norm", "eval_reward"):
        assert named(stopped, name) == named(straight, name)
    assert losses(stopped) == losses(straight)
    assert answered(stopped) == answered(straight)
    divergence, clipped = named(straight, "kl"), named(straight, "clip_fraction")
    assert divergence[0] == pytest.approx(0, abs=1e-6)
    assert divergence[-1] > 1e-4
    # A step learns from answers of the very model that it changes, but for the second of two.
    assert set(clipped[:: 2 if "two" in case else 1]) == {0.0}
    if "two" in case:
        assert max(clipped[1::2]) > 0


def test_another_reward_is_another_run(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def reward(prompt, answer, reference):\n    return len(answer)\n")
    own = ["objective=grpo", f"objective.options.reward={file}", "objective.options.max_new_tokens=4"]
    own += ["train.max_steps=4", "data.eval=null"]
    run = bench.train(*own, "train.stop_at=2")
    assert (run / "reward.py").read_text() == file.read_text()
    file.write_text("def reward(prompt, answer, reference):\n    return 1 / (len(answer) - len(answer))\n")
    refused = bench.run("resume", run.name, "train.stop_at=null", check=False)
    assert refused.returncode == 2
    assert "objective.options.reward" in refused.stderr
    bench.run("resume", run.name, "train.stop_at=null", "--accept-changes", "--follow", check=False)
    assert "ZeroDivisionError" in bench.run("why", run.name).stdout
