"""Reinforcement learning from the model's own answers: GRPO, two of its successors, and RLOO.

A question is answered several times, each answer is judged by the user's function or by a reward model, and those that
are better than the others to the same question become more likely. No model of values is learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from launcher.errors import Problem
from launcher.objectives.protocol import Needs, Per, Rollouts, Sampler, Scored

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from launcher.data.feed.batches import MicroBatch, Played


class Loss(Enum):
    """Which loss; A are advantages within a group of answers to one question, ρ = π / π_old."""

    grpo = "grpo"
    """-min(ρ A, clip(ρ) A) per token, as a mean over an answer's tokens, then over answers; A = (r - mean) / std, with
    the standard deviation of the group itself (Shao et al., arXiv:2402.03300, eq. 3)."""
    dr_grpo = "dr_grpo"
    """The same with A = r - mean, and the sum over tokens divided by `max_new_tokens`, so that neither length nor
    spread biases it (Liu et al., arXiv:2503.20783)."""
    dapo = "dapo"
    """That of grpo as a mean over all tokens of a group (Yu et al., arXiv:2503.14476, eq. 8); its `clip_high` is
    0.28."""
    rloo = "rloo"
    """-ρ A of the answer as a whole, A = r less the mean of the other answers, where r includes -kl · log(π_old / ref)
    (Ahmadian et al., arXiv:2402.14740); clipped like the others from the second update on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Of `grpo`."""

    reward: str = ""
    """Python file with `reward(prompt, answer, reference)`, which gives a number; or the folder of a reward model, as a
    run of `objective=reward` exports one."""
    loss: Loss = Loss.grpo
    """Which loss."""
    group: int = 8
    """Answers to each question."""
    updates: int = 1
    """Optimiser steps for which questions are answered at once; from the second on the model is no longer the one that
    answered."""
    clip_low: float = 0.2
    """How far ρ may fall below 1 and still count."""
    clip_high: float = 0.2
    """How far ρ may rise above 1 and still count."""
    kl: float = 0.0
    """Weight of the divergence from the untrained model, which is then held in memory as well; 0 holds none. Estimated
    per token as ref / π - log(ref / π) - 1 (arXiv:2402.03300, eq. 4)."""
    temperature: float = 1.0
    """What logits are divided by, in drawing tokens and in the loss."""
    eval_temperature: float = 0.0
    """The same where held-out questions are answered; 0 takes the likeliest token."""
    max_new_tokens: int = 256
    """Longest answer."""
    at_once: int = 32
    """Answers that a GPU gives at a time; fewer take less memory."""
    sampler: Sampler = Sampler.auto
    """What draws the answers of rollouts and evaluations."""
    vllm_memory: float = 0.3
    """Share of a GPU's memory for vLLM's weights, keys and values while it answers; it lets go of them afterwards."""
    vllm_tensor_parallel: int = 1
    """GPUs of a node that hold one of vLLM's engines in parts."""
    sampler_cap: float = 2.0
    """vLLM computes a little otherwise than training does. Each token counts π / π_vllm times, at most this often:
    importance sampling, truncated (Ionides, J. Comput. Graph. Stat. 17(2), 2008); in RLOO each answer does."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the values."""
        if not self.reward:
            message = "nothing judges the answers"
            valid = "objective.options.reward=FILE.py with `def reward(prompt, answer, reference): …`"
            yield Problem(where="reward", message=message, valid=f"{valid}, or the folder of a reward model")
        if self.group < 2:
            message = f"{self.group} answers to a question cannot be compared with each other"
            yield Problem(where="group", message=message, valid="2 or more")
        for name in ("updates", "max_new_tokens", "at_once", "vllm_tensor_parallel"):
            if getattr(self, name) < 1:
                yield Problem(where=name, message=f"{getattr(self, name)} is out of range", valid="1 or more")
        if not 0 < self.clip_low <= 1:
            yield Problem(where="clip_low", message=f"{self.clip_low} is out of range", valid="more than 0, at most 1")
        if not 0 < self.vllm_memory < 1:
            valid = "more than 0, less than 1"
            yield Problem(where="vllm_memory", message=f"{self.vllm_memory} is out of range", valid=valid)
        for name in ("clip_high", "temperature", "sampler_cap"):
            if getattr(self, name) <= 0:
                yield Problem(where=name, message=f"{getattr(self, name)} is out of range", valid="more than 0")
        for name in ("kl", "eval_temperature"):
            if getattr(self, name) < 0:
                yield Problem(where=name, message=f"{getattr(self, name)} is out of range", valid="0 or more")


class Grpo:
    """One of these losses."""

    name = "grpo"

    def __init__(self, options: Options) -> None:
        self._options = options
        self.measures: tuple[str, ...] = ("reward", "reward_std", "equal_groups", "answer_length", "clip_fraction")
        if options.kl > 0:
            self.measures = (*self.measures, "kl")
        if options.sampler is Sampler.vllm:
            self.measures = (*self.measures, "sampler_gap")
        rollouts = Rollouts(
            reward=options.reward,
            group=options.group,
            updates=options.updates,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            eval_temperature=options.eval_temperature,
            at_once=options.at_once,
            sampler=options.sampler,
            vllm_memory=options.vllm_memory,
            vllm_tensor_parallel=options.vllm_tensor_parallel,
            untrained=options.kl > 0,
        )
        self.needs = Needs(per=Per.example, rollouts=rollouts)

    def advantages(self, rewards: Tensor, divergences: Tensor) -> Tensor:
        """How much better each answer is than those to the same question; all float64 [questions, group]."""
        import torch

        loss = self._options.loss
        if loss is Loss.rloo:
            rewards = rewards - self._options.kl * divergences
            others = (rewards.sum(dim=1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
            return rewards - others
        centred = rewards - rewards.mean(dim=1, keepdim=True)
        if loss is not Loss.dr_grpo:
            centred = centred / rewards.std(dim=1, keepdim=True, correction=0)
        # Of equal rewards the rounding alone would be left, or nothing be divided by nothing.
        return torch.where(_equal(rewards), 0.0, centred)

    def score(self, model: torch.nn.Module, batch: MicroBatch) -> Scored:
        """Sum of the loss over answers."""
        import torch

        from launcher.models.forward import sums_of_rows, token_logps

        played = batch.played
        assert played is not None, "the batch carries no answers of the model's own"
        logps, counts = token_logps(model, batch, self._options.temperature)
        # Of the model that answered; where it is this one, the ratio is 1 to the last bit.
        before = logps.detach() if played.logps is None else played.logps
        sums: dict[str, Tensor] = {}
        if self._options.loss is Loss.rloo:
            losses, clipped = self._clipped(sums_of_rows(logps - before, counts).exp(), played.advantages)
            if played.sampled is not None:
                losses = losses * self._counted(sums_of_rows(before - played.sampled, counts))
        else:
            each = torch.repeat_interleave(played.advantages, counts)
            per_token, outside = self._clipped((logps - before).exp(), each)
            if played.sampled is not None:
                per_token = per_token * self._counted(before - played.sampled)
            if self._options.kl > 0:
                per_token = per_token + self._options.kl * _divergence(logps, played)
            losses = sums_of_rows(per_token, counts) / self._tokens(counts, played)
            clipped = sums_of_rows(outside, counts) / counts
        if self._options.kl > 0:
            sums["kl"] = (sums_of_rows(_divergence(logps.detach(), played), counts) / counts).sum()
        if played.sampled is not None:
            sums["sampler_gap"] = (sums_of_rows((before - played.sampled).abs(), counts) / counts).sum()
        sums |= {
            "reward": played.rewards.sum(),
            "reward_std": played.spreads.sum(),
            "equal_groups": (played.spreads == 0).sum(),
            "answer_length": counts.sum(),
            "clip_fraction": clipped.sum(),
        }
        return Scored(loss_sum=losses.sum(), sums=sums)

    def _clipped(self, ratios: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
        """-min(ρ A, clip(ρ) A), and where (1 or 0) it has no gradient."""
        low, high = 1 - self._options.clip_low, 1 + self._options.clip_high
        kept = ratios * advantages
        losses = -kept.minimum(ratios.clamp(low, high) * advantages)
        outside = ((ratios < low) & (advantages < 0)) | ((ratios > high) & (advantages > 0))
        return losses, outside.to(ratios)

    def _counted(self, gaps: Tensor) -> Tensor:
        """How often what vLLM drew counts, of log(π / π_vllm)."""
        return gaps.exp().clamp(max=self._options.sampler_cap)

    def _tokens(self, counts: Tensor, played: Played) -> Tensor | int:
        """What the sum over an answer's tokens is divided by."""
        if self._options.loss is Loss.dr_grpo:
            return self._options.max_new_tokens
        return played.mean_tokens if self._options.loss is Loss.dapo else counts

    def summarise(self, counts: list[float]) -> dict[str, float]:
        """None beside its measures."""
        return {}


def _equal(rewards: Tensor) -> Tensor:
    return rewards.amax(dim=1, keepdim=True) == rewards.amin(dim=1, keepdim=True)


def _divergence(logps: Tensor, played: Played) -> Tensor:
    """Of the untrained model, per token: at least 0, and without bias."""
    assert played.untrained is not None, "the batch carries no log-probabilities of the untrained model"
    gap = played.untrained - logps
    return gap.exp() - gap - 1


def build(options: Options) -> Grpo:
    """The objective."""
    return Grpo(options)
