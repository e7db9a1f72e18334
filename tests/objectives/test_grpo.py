"""What is learnt from a model's own answers against the formulas of the papers, number by number, in doubles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from launcher.data.feed.batches import MicroBatch, Played
from launcher.objectives import registry
from launcher.objectives.grpo import Grpo, Options
from tests.objectives.test_formulas import EXACT, ROWS, Fixed, batch_of, logps_by_hand, random_model

REWARDS = [1.0, 0.25, 0.0, 0.5]
"""Of four answers, the first two to one question and the others to another."""
GROUP = 2
LOW, HIGH, KL, TEMPERATURE, MOST = 0.2, 0.3, 0.05, 0.7, 9


def objective(loss: str, **changes: Any) -> Grpo:
    values = {"clip_low": LOW, "clip_high": HIGH, "kl": KL, "temperature": TEMPERATURE, "max_new_tokens": MOST}
    made = registry.load("grpo", {"reward": "x.py", "loss": loss, "group": GROUP, **values, **changes})
    assert isinstance(made, Grpo)
    return made


def per_token(value: float, batch: MicroBatch) -> list[list[float]]:
    """Log-probabilities that some other model might give, row by row."""
    lengths = torch.bincount(batch.row_ids[batch.labels >= 0]).tolist()
    return [[-value - 0.31 * ((3 * row + place) % 5) for place in range(length)] for row, length in enumerate(lengths)]


def flat(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor([value for row in rows for value in row], dtype=torch.float32)


def clipped(ratio: float, advantage: float) -> float:
    return min(ratio * advantage, min(max(ratio, 1 - LOW), 1 + HIGH) * advantage)


def k3(logp: float, reference: float) -> float:
    return math.exp(reference - logp) - (reference - logp) - 1


Rows = list[list[float]]


def token_sums(now: Rows, old: Rows, reference: Rows, advantages: list[float]) -> list[float]:
    """Per answer: clipped objective less the divergence, summed over its tokens."""
    sums = []
    for row, advantage in enumerate(advantages):
        each = zip(now[row], old[row], reference[row], strict=True)
        sums.append(sum(clipped(math.exp(n - o), advantage) - KL * k3(n, r) for n, o, r in each))
    return sums


def normalised(rewards: list[float]) -> list[float]:
    found = []
    for at in range(0, len(rewards), GROUP):
        group = rewards[at : at + GROUP]
        found += [(reward - statistics.fmean(group)) / statistics.pstdev(group) for reward in group]
    return found


def grpo(now: Rows, old: Rows, reference: Rows) -> float:
    """DeepSeekMath, eq. 3, summed over questions and answers instead of averaged."""
    sums = token_sums(now, old, reference, normalised(REWARDS))
    return -sum(total / len(row) for total, row in zip(sums, now, strict=True))


def dr_grpo(now: Rows, old: Rows, reference: Rows) -> float:
    """Dr. GRPO: neither the answer's length nor the group's spread divides; the budget of tokens does."""
    means = [statistics.fmean(REWARDS[at // GROUP * GROUP : at // GROUP * GROUP + GROUP]) for at in range(len(REWARDS))]
    advantages = [reward - mean for reward, mean in zip(REWARDS, means, strict=True)]
    return -sum(token_sums(now, old, reference, advantages)) / MOST


def dapo(now: Rows, old: Rows, reference: Rows) -> float:
    """DAPO, eq. 8, times the answers of each group."""
    sums, total = token_sums(now, old, reference, normalised(REWARDS)), 0.0
    for at in range(0, len(now), GROUP):
        tokens = sum(len(row) for row in now[at : at + GROUP])
        total -= GROUP * sum(sums[at : at + GROUP]) / tokens
    return total


def rloo(now: Rows, old: Rows, reference: Rows) -> float:
    """RLOO: the divergence is taken off the reward, and the baseline is the mean of the others."""
    penalised = [REWARDS[row] - KL * (sum(old[row]) - sum(reference[row])) for row in range(len(now))]
    total = 0.0
    for row in range(len(now)):
        first = row // GROUP * GROUP
        others = [penalised[at] for at in range(first, first + GROUP) if at != row]
        advantage = penalised[row] - statistics.fmean(others)
        total -= clipped(math.exp(sum(now[row]) - sum(old[row])), advantage)
    return total


def played(made: Grpo, batch: MicroBatch, old: Rows, reference: Rows, *, current: bool = False) -> Played:
    rewards = torch.tensor(REWARDS, dtype=torch.float64).reshape(-1, GROUP)
    gaps = [sum(one) - sum(other) for one, other in zip(old, reference, strict=True)]
    divergences = torch.tensor(gaps, dtype=torch.float64).reshape(-1, GROUP)
    lengths = torch.tensor([float(len(row)) for row in old]).reshape(-1, GROUP)
    return Played(
        rewards=rewards.reshape(-1).float(),
        advantages=made.advantages(rewards, divergences).reshape(-1).float(),
        spreads=rewards.std(dim=1, correction=0).repeat_interleave(GROUP).float(),
        mean_tokens=lengths.mean(dim=1).repeat_interleave(GROUP),
        logps=None if current else flat(old),
        untrained=flat(reference),
    )


def case(**changes: Any) -> tuple[Fixed, MicroBatch, Rows, Rows, Rows]:
    """A model, its batch, and log-probabilities now, before and untrained; now at the temperature."""
    batch = batch_of(ROWS)
    model = random_model(batch)
    cooled = Fixed(model.outputs.detach() / TEMPERATURE)
    now = logps_by_hand(cooled, batch)
    # Near enough that some ratios are clipped and others not.
    old = [[n + 0.25 * ((row + place) % 3 - 1) for place, n in enumerate(each)] for row, each in enumerate(now)]
    return model, batch, now, old, per_token(1.2, batch)


@pytest.mark.parametrize("formula", [grpo, dr_grpo, dapo, rloo])
def test_a_loss_is_its_papers(formula: Callable[[Rows, Rows, Rows], float]) -> None:
    model, batch, now, old, reference = case()
    made = objective(formula.__name__)
    full = batch_of(ROWS, played=played(made, batch, old, reference))
    found = made.score(model, full)
    assert found.loss_sum.item() == pytest.approx(formula(now, old, reference), rel=EXACT)
    found.loss_sum.backward()
    assert model.outputs.grad is not None
    assert model.outputs.grad.abs().sum() > 0
    assert found.sums["reward"].item() == pytest.approx(sum(REWARDS))
    assert found.sums["answer_length"].item() == sum(map(len, now))
    divergence = sum(
        statistics.fmean(k3(n, r) for n, r in zip(*rows, strict=True)) for rows in zip(now, reference, strict=True)
    )
    assert found.sums["kl"].item() == pytest.approx(divergence, rel=1e-5)


def test_what_another_program_drew_counts_by_how_likely_training_finds_it_up_to_a_cap() -> None:
    """Ionides' truncated importance sampling: min(π_old / π_sampler, cap), of each token, and in RLOO of the answer."""
    model, batch, now, old, reference = case(kl=0.0)
    cap = 1.5
    drawn = [[o - 0.2 * ((row + 2 * place) % 4) for place, o in enumerate(each)] for row, each in enumerate(old)]
    gaps = [[o - d for o, d in zip(*rows, strict=True)] for rows in zip(old, drawn, strict=True)]
    assert max(map(max, gaps)) > math.log(cap)
    advantages = normalised(REWARDS)
    by_token, by_answer = 0.0, 0.0
    for row, each in enumerate(now):
        ratios = [math.exp(n - o) for n, o in zip(each, old[row], strict=True)]
        counted = [
            min(math.exp(gap), cap) * clipped(ratio, advantages[row])
            for gap, ratio in zip(gaps[row], ratios, strict=True)
        ]
        by_token -= statistics.fmean(counted)
        first = row // GROUP * GROUP
        others = [REWARDS[at] for at in range(first, first + GROUP) if at != row]
        advantage = REWARDS[row] - statistics.fmean(others)
        by_answer -= min(math.exp(sum(gaps[row])), cap) * clipped(math.exp(sum(each) - sum(old[row])), advantage)
    for loss, expected in (("grpo", by_token), ("rloo", by_answer)):
        made = objective(loss, kl=0.0, sampler="vllm", sampler_cap=cap)
        full = batch_of(ROWS, played=replace(played(made, batch, old, reference), sampled=flat(drawn)))
        found = made.score(model, full)
        assert found.loss_sum.item() == pytest.approx(expected, rel=EXACT)
        assert found.sums["sampler_gap"].item() == pytest.approx(sum(map(statistics.fmean, gaps)), rel=1e-5)
        assert set(found.sums) == set(made.measures)


def test_without_a_second_update_the_gradient_is_that_of_reinforce_with_a_leave_one_out_baseline() -> None:
    model, batch, now, _, reference = case()
    made = objective("rloo")
    full = batch_of(ROWS, played=played(made, batch, now, reference, current=True))
    made.score(model, full).loss_sum.backward()
    found = model.outputs.grad
    other = Fixed(model.outputs.detach().double())
    assert full.played is not None
    rows, columns = (full.labels[:, 1:] >= 0).nonzero(as_tuple=True)
    logps = (other.outputs / TEMPERATURE).log_softmax(-1)[rows, columns, full.labels[rows, columns + 1]]
    loss = -(full.played.advantages.double()[rows] * logps).sum()
    loss.backward()
    assert found is not None
    assert other.outputs.grad is not None
    assert torch.allclose(found.double(), other.outputs.grad, atol=1e-6)


def test_the_share_of_clipped_tokens_is_that_of_tokens_without_gradient() -> None:
    model, batch, now, old, reference = case()
    made = objective("grpo")
    full = batch_of(ROWS, played=played(made, batch, old, reference))
    outside = []
    for row, advantage in enumerate(normalised(REWARDS)):
        ratios = [math.exp(n - o) for n, o in zip(now[row], old[row], strict=True)]
        wrong = [(r < 1 - LOW and advantage < 0) or (r > 1 + HIGH and advantage > 0) for r in ratios]
        outside.append(statistics.fmean(wrong))
    assert 0 < sum(outside) < len(outside)
    assert made.score(model, full).sums["clip_fraction"].item() == pytest.approx(sum(outside))


def test_equal_rewards_teach_nothing() -> None:
    rewards = torch.tensor([[0.1] * 7, [0.3] * 7], dtype=torch.float64)
    for loss in ("grpo", "dr_grpo", "dapo"):
        assert (objective(loss, group=7).advantages(rewards, torch.zeros_like(rewards)) == 0).all()


def test_no_untrained_model_is_held_without_a_weight_for_it() -> None:
    for kl in (0.0, 0.1):
        asks = objective("grpo", kl=kl).needs.rollouts
        assert asks is not None
        assert asks.untrained is (kl > 0)
        assert ("kl" in objective("grpo", kl=kl).measures) is (kl > 0)


def test_options_out_of_range_are_told_together() -> None:
    wrong = Options(group=1, clip_low=2, temperature=0, kl=-1, updates=0)
    assert [problem.where for problem in wrong.problems()] == [
        "reward",
        "group",
        "updates",
        "clip_low",
        "temperature",
        "kl",
    ]
