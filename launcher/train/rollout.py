"""Between steps the model in training answers questions, and what its answers are worth becomes the data of the steps.

Owns which rank gives which answer, and that everything about them follows from (weights, seed, step): a run that
resumes gives the same answers again. Must not know the loss that learns from them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist

from launcher.data.feed.batches import MicroBatch, Played
from launcher.data.feed.order import Int64Array, checksum
from launcher.data.render.tokenizer import load_tokenizer
from launcher.evaluate.held_out import Summed
from launcher.evaluate.sets import HeldOutSet
from launcher.faultpoints import Point, reach
from launcher.models.forward import sums_of_rows, token_logps
from launcher.models.generation import end_tokens
from launcher.models.judge import HEAD, judge_model
from launcher.objectives.protocol import Player, Rollouts
from launcher.objectives.registry import objective_of
from launcher.seeds import derive
from launcher.train.agree import from_rank0
from launcher.train.answering import Answering, Given, laid_out
from launcher.train.feed import StepData
from launcher.train.frozen import frozen_all
from launcher.train.parts import Parts
from launcher.train.questions import question_of
from launcher.train.reward import Judge, Scorer
from launcher.train.shown import Shown, ShownAnswer
from launcher.train.skips import Skip, data_step
from launcher.train.speaker import speaker_all

SHOWN = 4
"""Answers of a rollout, or of an evaluation, that rollouts.jsonl gets."""
_TOLD = ("loss", "reward", "answer_length")


class Play:
    """What a run's model answers, from the run's start to its end."""

    def __init__(
        self,
        parts: Parts,
        player: Player,
        asks: Rollouts,
        answering: Answering,
        untrained: Any,
        shown: Shown,
    ) -> None:
        self._parts, self._player, self._asks, self._answering = parts, player, asks, answering
        self._untrained, self._shown = untrained, shown

    def steps(self, start: int, stop: int, skips: Sequence[Skip]) -> Iterator[StepData]:
        """Data of the steps from `start` up to `stop`; collective, whenever the next is asked for."""
        unit = self._asks.updates
        assert start % unit == 0, f"step {start} is within a rollout"
        self._shown.forget_after(start)
        rollouts = (range(first, first + unit) for first in range(start, stop, unit))
        return (data for steps in rollouts for data in self._rollout_all(steps, skips))

    def evaluate_all(
        self, held_out: HeldOutSet, *, step: int, before_batch: Callable[[], None], stopped: Callable[[], bool]
    ) -> Summed | None:
        """One answer to each held-out question; collective. None where `stopped` said so meanwhile.

        Its loss is the reward with the sign turned: wherever a held-out loss is asked for, less is better.
        """
        rank, size, samples = dist.get_rank(), dist.get_world_size(), held_out.samples
        high = min(self._asks.at_once, max(1, math.ceil(len(samples) / size)))
        groups = held_out.groups
        of = np.zeros(len(samples), dtype=np.int64) if groups is None else groups.of
        count = 1 if groups is None else len(groups.members)
        totals = torch.zeros((count, len(_TOLD)), dtype=torch.float64, device=self._parts.device)
        shown: list[ShownAnswer] = []
        with self._answering.awake_all():
            for low in range(0, len(samples), size * high):
                if stopped():
                    return None
                # The tail is filled up: ranks make equally many passes. What fills it does not count.
                wanted = range(low + rank * high, low + (rank + 1) * high)
                questions = [question_of(samples, min(sample, len(samples) - 1)) for sample in wanted]
                keys = [derive(self._seed, "held out", question.sample) for question in questions]
                given = self._answering.given(questions, keys, self._asks.eval_temperature, before_batch)
                given = given[: max(0, min(high, len(samples) - wanted[0]))]
                for each in given:
                    told = (-each.reward, each.reward, len(each.answer.ids))
                    totals[int(of[each.question.sample])] += torch.tensor(
                        told, dtype=torch.float64, device=totals.device
                    )
                shown += [self._answering.told(each, step, held_out=True) for each in given[: SHOWN - len(shown)]]
        dist.all_reduce(totals)
        self._shown.add(shown)
        summed = totals.cpu().numpy()
        return Summed(
            names=_TOLD,
            totals=summed,
            counts=None,
            tokens=summed[:, 2].astype(np.int64),
            examples=np.bincount(of, minlength=count),
        )

    @property
    def _seed(self) -> int:
        return self._parts.plan.config.train.seed

    def _rollout_all(self, steps: range, skips: Sequence[Skip]) -> list[StepData]:
        """Questions of these steps, answered by the model as it is before the first of them."""
        parts, batch = self._parts, self._parts.plan.batch
        rank, group, micro = parts.ranks.rank, self._asks.group, batch.micro_batch_size
        for step in steps:
            reach(Point.data, rank=rank, step=step + 1)
        each = batch.global_batch_size // group
        chosen = np.concatenate([parts.order.samples_of_step(data_step(step, skips), each) for step in steps])
        # Answer i of a step is number i % group to its question i // group; this rank trains on those that it gives.
        asked = np.repeat(chosen, group)
        mine = np.arange(len(asked), dtype=np.int64).reshape(-1, batch.data_parallel_size, micro)[:, rank, :]
        places = mine.reshape(-1)
        questions = [question_of(parts.samples, int(asked[place])) for place in places]
        keys = [self._key(steps, place, int(asked[place])) for place in places.tolist()]
        with self._answering.awake_all():
            given = self._answering.given(questions, keys, self._asks.temperature, parts.watchdog.step)
        batches = laid_out(questions, [each.answer.ids for each in given], micro)
        parts.engine.eval()
        try:
            played, divergences = self._thought_of(batches, later=batch.accumulation)
        finally:
            parts.engine.train()
        known = self._known_all(given, divergences, places, len(asked))
        facts = self._facts(known)
        self._shown.add(
            [
                self._answering.told(given[at], steps[0] + 1, advantage=float(facts[1, places[at]]))
                for at in _spread(len(given))
            ]
        )
        for number, numbers in enumerate(mine):
            sampled = _sampled(given[number * micro : (number + 1) * micro])
            batches[number] = replace(batches[number], played=_with_facts(played[number], facts[:, numbers], sampled))
        return [self._step_data(steps, step, batches, known) for step in steps]

    def _key(self, steps: range, place: int, sample: int) -> int:
        """A function of (seed, step, question, which answer to it), whatever the number of ranks."""
        size = self._parts.plan.batch.global_batch_size
        return derive(self._seed, "rollout", steps[place // size], sample, place % size)

    def _thought_of(self, batches: Sequence[MicroBatch], *, later: int) -> tuple[list[_Thought], list[torch.Tensor]]:
        """What the model, as it is, and the untrained one think of the answers, and per answer how far they differ.

        Batches from number `later` on are learnt from when the model is no longer as it is.
        """
        thoughts, divergences = [], []
        for number, batch in enumerate(batches):
            thought = _Thought()
            placed = batch.to(self._parts.device)
            with torch.no_grad():
                if number >= later or self._untrained is not None:
                    self._parts.watchdog.step()
                    thought.logps, counts = token_logps(self._parts.engine, placed, self._asks.temperature)
                if self._untrained is not None:
                    assert thought.logps is not None
                    self._parts.watchdog.step()
                    thought.untrained, counts = token_logps(self._untrained, placed, self._asks.temperature)
                    divergences.append(sums_of_rows(thought.logps - thought.untrained, counts))
            thoughts.append(thought if number >= later else replace(thought, logps=None))
        return thoughts, divergences

    def _known_all(
        self, given: Sequence[Given], divergences: Sequence[torch.Tensor], places: Int64Array, count: int
    ) -> torch.Tensor:
        """Of all ranks' answers reward, tokens, tokens with the prompt, and divergence: float64 [4, answers]."""
        mine = torch.zeros(4, len(given), dtype=torch.float64)
        for place, each in enumerate(given):
            said = len(each.answer.ids)
            whole = len(each.question.prompt) + said
            mine[:3, place] = torch.tensor([each.reward, said, whole], dtype=torch.float64)
        if divergences:
            mine[3] = torch.cat(list(divergences)).double().cpu()
        known = torch.zeros(4, count, dtype=torch.float64)
        known[:, torch.from_numpy(places)] = mine
        known = known.to(self._parts.device)
        # Every answer is one rank's; the others add nothing to it.
        dist.all_reduce(known)
        return known.cpu()

    def _facts(self, known: torch.Tensor) -> torch.Tensor:
        """As `Played` has them, of all answers: rewards, advantages, spreads and mean tokens, float64 [4, answers]."""
        rewards, tokens, _, divergences = (each.reshape(-1, self._asks.group) for each in known)
        # That of equal rewards is 0, whatever their sum is rounded to.
        spread = rewards.std(dim=1, correction=0).where(rewards.amax(dim=1) > rewards.amin(dim=1), 0.0)
        shape = rewards.shape
        facts = (
            rewards,
            self._player.advantages(rewards, divergences),
            spread[:, None].expand(shape),
            tokens.mean(dim=1, keepdim=True).expand(shape),
        )
        return torch.stack([fact.reshape(-1) for fact in facts])

    def _step_data(self, steps: range, step: int, batches: Sequence[MicroBatch], known: torch.Tensor) -> StepData:
        plan_batch = self._parts.plan.batch
        number, size, passes = step - steps[0], plan_batch.global_batch_size, plan_batch.accumulation
        own = list(batches[number * passes : (number + 1) * passes])
        _, tokens, whole, _ = known[:, number * size : (number + 1) * size].sum(dim=1).tolist()
        return StepData(
            step=step,
            batches=own,
            fed=checksum(sample for batch in own for sample in batch.samples),
            trained=int(tokens),
            weight=size,
            processed=int(whole),
        )


@dataclass(kw_only=True, slots=True)
class _Thought:
    """Log-probabilities of a batch's trained tokens."""

    logps: torch.Tensor | None = None
    """Under the model that said them."""
    untrained: torch.Tensor | None = None
    """Under the untrained one."""


def _sampled(given: Sequence[Given]) -> torch.Tensor | None:
    """Of a batch's answers, token after token, as `Played` has them."""
    logps = [each.answer.logps for each in given if each.answer.logps is not None]
    return torch.from_numpy(np.concatenate(logps)) if logps else None


def _with_facts(thought: _Thought, facts: torch.Tensor, sampled: torch.Tensor | None) -> Played:
    rewards, advantages, spreads, mean_tokens = facts.float()
    return Played(
        rewards=rewards,
        advantages=advantages,
        spreads=spreads,
        mean_tokens=mean_tokens,
        logps=thought.logps,
        untrained=thought.untrained,
        sampled=sampled,
    )


def _spread(count: int) -> list[int]:
    """A few numbers below `count`, far apart: neighbours answer the same question."""
    return list(range(0, count, max(1, count // SHOWN)))[:SHOWN]


def play_all(parts: Parts) -> Play | None:
    """What has the run's model answer; None where its objective does not ask for it. Collective."""
    objective = objective_of(parts.plan.config)
    asks = objective.needs.rollouts
    if asks is None:
        return None
    run, rank = parts.run, parts.ranks.rank
    judge: Judge | Scorer
    scoring, device = judge_model(parts.plan.config), parts.device
    if scoring is None:
        judge = Judge(from_rank0(lambda: run.reward.read_text(encoding="utf-8")), run.reward)
    else:
        judge = Scorer(frozen_all(parts.plan, Path(scoring.path), scoring, device, HEAD), device)
    untrained = None
    if asks.untrained:
        folder = Path(os.environ["LAUNCHER_MODEL"])
        untrained = frozen_all(parts.plan, folder, parts.plan.config.model, parts.device)
    tokenizer = load_tokenizer(os.environ["LAUNCHER_MODEL"], parts.plan.train_data.chat_template)
    speaker = speaker_all(parts, asks, end_tokens(parts.engine.module, tokenizer))
    shown = Shown(run.rollouts if rank == 0 else None)
    answering = Answering(parts, asks, judge, tokenizer, speaker)
    return Play(parts, cast("Player", objective), asks, answering, untrained, shown)
