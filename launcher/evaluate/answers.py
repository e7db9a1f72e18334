"""The model's answers to held-out rows, scored against the answers that the rows have: what a loss does not tell.

Owns which rank answers which row, and the sums of the scores. Rows are cut into batches whatever the number of ranks,
every answer is the likeliest token after token, and sums are exact: no number depends on who computed it.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from launcher.config.evaluate import scored_sets
from launcher.config.sources import typed
from launcher.data.feed.order import Int64Array
from launcher.data.feed.samples import Samples
from launcher.data.render.tokenizer import load_tokenizer
from launcher.data.source import Format
from launcher.data.tokens import AnyArray
from launcher.errors import Problem, UserError
from launcher.evaluate.scores import METRICS, ROUGE, told
from launcher.evaluate.sets import HeldOutSet
from launcher.measures import ALL
from launcher.models.generation import Asked, answers, end_tokens
from launcher.train.agree import from_rank0
from launcher.train.parts import Parts
from launcher.train.questions import Question, question_of
from launcher.train.shown import Shown, ShownAnswer

SHOWN = 4
"""Answers to each set that answers.jsonl gets, at every evaluation."""
_KEY = "evaluate.answers"
_MOST_PROBLEMS = 5

Scores = dict[str, list[list[float]]]
"""By metric, the numbers made of each answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """Rows of one held-out set that are asked."""

    samples: Samples
    """The set's, never packed: a row is a question."""
    chosen: Int64Array
    """Which of them."""
    metrics: tuple[str, ...]
    """How their answers are scored."""


class Exam:
    """Asks the model of a run again and again."""

    def __init__(self, parts: Parts, start: int) -> None:
        """Collective; UserError where rows cannot be asked, or answers not be scored against theirs.

        The run goes on from step `start`: what was shown of later ones is shown again.
        """
        self._parts, self._asks = parts, parts.plan.config.evaluate.answers
        scored = scored_sets(self._asks, parts.held_out)
        self._sets = {key: _asked(parts.held_out[key], names, self._asks.limit) for key, names in scored.items()}
        self._tokenizer = load_tokenizer(os.environ["LAUNCHER_MODEL"], parts.plan.train_data.chat_template)
        self._ends = end_tokens(parts.engine.module, self._tokenizer)
        # Raised here, on all ranks, and not on one that the others would wait for.
        problems = from_rank0(lambda: [problem for key in self._sets for problem in self._problems(key)])
        if problems:
            raise UserError(*problems[:_MOST_PROBLEMS])
        self._shown = Shown(parts.run.answers if parts.ranks.rank == 0 else None)
        self._shown.forget_after(start)

    def ask_all(
        self, step: int, before_forward: Callable[[], None], stopped: Callable[[], bool]
    ) -> dict[str, float] | None:
        """What the answers are worth after `step` optimiser steps, by the names of metrics.jsonl; collective.

        `stopped` (collective, too) is asked before every round of the ranks; None if it says so.
        """
        found: dict[str, Scores] = {}
        shown: list[ShownAnswer] = []
        self._parts.engine.eval()
        try:
            for key, asked in self._sets.items():
                scores = self._scores_all(key, asked, step, before_forward, stopped, shown)
                if scores is None:
                    return None
                found[key] = scores
        finally:
            self._parts.engine.train()
        self._shown.add(shown)
        return measured(found)

    def _scores_all(
        self,
        key: str,
        asked: _Asked,
        step: int,
        before_forward: Callable[[], None],
        stopped: Callable[[], bool],
        shown: list[ShownAnswer],
    ) -> Scores | None:
        """Of all answers to one set; adds a few of this rank's to `shown`."""
        rank, size, high = dist.get_rank(), dist.get_world_size(), self._asks.at_once
        widths = [METRICS[name].columns for name in asked.metrics]
        table = torch.zeros((len(asked.chosen), sum(widths)), dtype=torch.float64)
        few = len(shown) + SHOWN
        for first in range(0, len(asked.chosen), size * high):
            if stopped():
                return None
            low = first + rank * high
            questions = [question_of(asked.samples, sample) for sample in asked.chosen[low : low + high].tolist()]
            if not questions:
                self._keep_company(question_of(asked.samples, int(asked.chosen[first])), before_forward)
            for place, (question, ids) in enumerate(
                zip(questions, self._said(questions, before_forward), strict=True), start=low
            ):
                answer, reference = self._text(ids), self._text(question.reference)
                rows = {name: list(METRICS[name].score(answer, reference)) for name in asked.metrics}
                table[place] = torch.tensor([number for row in rows.values() for number in row], dtype=torch.float64)
                if len(shown) < few:
                    shown.append(self._told(key, step, question, answer, reference, rows))
        table = table.to(self._parts.device)
        # Every answer is one rank's; the others add nothing to it.
        dist.all_reduce(table)
        parts = np.split(table.cpu().numpy(), np.cumsum(widths)[:-1], axis=1)
        return {name: part.tolist() for name, part in zip(asked.metrics, parts, strict=True)}

    def _said(self, questions: Sequence[Question], before_forward: Callable[[], None]) -> list[AnyArray]:
        if not questions:
            return []
        room = self._parts.plan.config.data.seq_len
        prompts = [
            Asked(ids=one.prompt, most=min(self._asks.max_new_tokens, room - len(one.prompt)), key=0)
            for one in questions
        ]
        return self._answers(prompts, before_forward)

    def _keep_company(self, question: Question, before_forward: Callable[[], None]) -> None:
        """Make the passes that the other ranks need, with nothing left to ask."""
        if self._together:
            self._answers([Asked(ids=question.prompt, most=1, key=0)], before_forward)

    def _answers(self, prompts: Sequence[Asked], before_forward: Callable[[], None]) -> list[AnyArray]:
        return answers(
            self._parts.engine,
            prompts,
            ends=self._ends,
            temperature=0.0,
            together=self._together,
            device=self._parts.device,
            before_forward=before_forward,
        )

    @property
    def _together(self) -> bool:
        """Whether a pass is made by all ranks: parameters that lie in parts come together for it."""
        return self._parts.plan.config.zero.stage == 3

    def _text(self, ids: AnyArray) -> str:
        """Up to the end of the turn, which not every tokenizer counts among its special tokens."""
        ends = np.flatnonzero(np.isin(ids, self._ends))
        kept = ids[: ends[0]] if len(ends) else ids
        text: str = self._tokenizer.decode(kept.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text.strip()

    def _told(
        self, key: str, step: int, question: Question, answer: str, reference: str, rows: Mapping[str, list[float]]
    ) -> ShownAnswer:
        asked = self._tokenizer.decode(question.prompt.tolist(), skip_special_tokens=True)
        scores = {name: value for metric, row in rows.items() for name, value in told(metric, [row]).items()}
        return {
            "step": step,
            "set": key,
            "question": asked,
            "answer": answer,
            "reference": reference,
            **scores,
            "attempt": self._parts.ranks.attempt,
        }

    def _problems(self, key: str) -> Iterator[Problem]:
        """What stands in the way of scoring answers to a set."""
        asked, where = self._sets[key], typed(key)
        if ROUGE in asked.metrics and importlib.util.find_spec("rouge_score") is None:
            remedy = "pip install zero-launcher[rouge]"
            yield Problem(where=f"{_KEY}.metrics", message="rouge-score is not installed on the nodes", remedy=remedy)
        if any(Format.text.value in source.formats for source in asked.samples.store.meta.sources):
            message = "some of its rows are texts, which hold no question to answer"
            yield Problem(where=where, message=message, remedy=f"leave it out: {_KEY}.by_set.NAME=[]")
            return
        for name in asked.metrics:
            wanted = METRICS[name]
            if wanted.wants is None:
                continue
            for sample in asked.chosen.tolist():
                reference = self._text(question_of(asked.samples, sample).reference)
                if not wanted.accepts(reference):
                    message = f"the answer of row {sample + 1} of those kept is not {wanted.wants}: {reference[:80]!r}"
                    yield Problem(where=where, message=message, remedy=f"choose another metric: {_KEY}.by_set.NAME=[…]")
                    break


def measured(found: Mapping[str, Scores]) -> dict[str, float]:
    """What is told of the answers to all sets together, and of those to each set with a name."""
    every: Scores = {}
    for scores in found.values():
        for name, rows in scores.items():
            every.setdefault(name, []).extend(rows)
    return {
        f"{prefix}_{kind}": value
        for prefix, scores in {ALL: every, **found}.items()
        for name, rows in scores.items()
        if rows
        for kind, value in told(name, rows).items()
    }


def _asked(held_out: HeldOutSet, metrics: tuple[str, ...], limit: int | None) -> _Asked:
    samples = Samples(held_out.samples.store, packed=False)
    count = len(samples)
    few = count if limit is None else min(limit, count)
    # Spread evenly: a file may be sorted.
    return _Asked(samples=samples, chosen=np.arange(few, dtype=np.int64) * count // max(1, few), metrics=metrics)
