"""Answers of the model in training, and what they are worth.

Owns the asking, the judging and how answers are laid out in batches. Must not know which rank asks what, nor the loss
that learns from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from launcher.data.feed.batches import MicroBatch, side_by_side
from launcher.data.tokens import AnyArray
from launcher.models.generation import Answer, Asked, behind_answer
from launcher.objectives.protocol import Rollouts
from launcher.train.feed import PAD_ID
from launcher.train.parts import Parts
from launcher.train.questions import Question
from launcher.train.reward import Judge, Scorer
from launcher.train.shown import ShownAnswer
from launcher.train.speaker import Speaker


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """One answer."""

    question: Question
    """To what."""
    answer: Answer
    """What was said."""
    reward: float
    """How good it is."""


class Answering:
    """Who answers, and who judges."""

    def __init__(self, parts: Parts, asks: Rollouts, judge: Judge | Scorer, tokenizer: Any, speaker: Speaker) -> None:
        self._parts, self._asks, self._judge = parts, asks, judge
        self._tokenizer, self._speaker = tokenizer, speaker
        self._behind = np.array(behind_answer(tokenizer), dtype=np.int64)

    def awake_all(self) -> AbstractContextManager[None]:
        """Within it answers are those of the model as it is on entering; collective."""
        return self._speaker.awake_all()

    def given(
        self,
        questions: Sequence[Question],
        keys: Sequence[int],
        temperature: float,
        before_forward: Callable[[], None],
    ) -> list[Given]:
        """Answers, and their rewards."""
        config, asks = self._parts.plan.config, self._asks
        prompts = [
            Asked(ids=one.prompt, most=min(asks.max_new_tokens, config.data.seq_len - len(one.prompt)), key=key)
            for one, key in zip(questions, keys, strict=True)
        ]
        said = self._speaker.answers(prompts, temperature, before_forward)
        rewards = self._rewards(questions, [answer.ids for answer in said])
        told = zip(questions, said, rewards, strict=True)
        return [Given(question=question, answer=answer, reward=reward) for question, answer, reward in told]

    def _rewards(self, questions: Sequence[Question], said: Sequence[AnyArray]) -> list[float]:
        """What the answers are worth."""
        rewards: list[float] = []
        if isinstance(self._judge, Scorer):
            for batch in laid_out(
                questions, [self._closed(ids) for ids in said], self._parts.plan.batch.micro_batch_size
            ):
                self._parts.watchdog.step()
                rewards += self._judge(batch)
            return rewards
        for question, ids in zip(questions, said, strict=True):
            self._parts.watchdog.step()
            rewards.append(self._judge(self._text(question.prompt), self._text(ids), self._text(question.reference)))
        return rewards

    def _closed(self, ids: AnyArray) -> AnyArray:
        """An answer as rows have it: with what the template puts behind a turn's end."""
        ended = len(self._behind) > 1 and ids[-1:] == self._behind[:1]
        return np.concatenate([ids, self._behind[1:]]) if ended else ids

    def _text(self, ids: AnyArray) -> str:
        text: str = self._tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def told(self, given: Given, step: int, **more: Any) -> ShownAnswer:
        """An answer as rollouts.jsonl has it."""
        return {
            "step": step,
            "question": self._text(given.question.prompt),
            "answer": self._text(given.answer.ids),
            "reference": self._text(given.question.reference),
            "reward": given.reward,
            **more,
            "attempt": self._parts.ranks.attempt,
        }


def laid_out(questions: Sequence[Question], said: Sequence[AnyArray], micro: int) -> list[MicroBatch]:
    """Questions with their answers, so many to a batch."""
    rows = [
        (np.concatenate([question.prompt.astype(np.int64), ids]), len(question.prompt))
        for question, ids in zip(questions, said, strict=True)
    ]
    samples = [question.sample for question in questions]
    return [side_by_side(rows[at : at + micro], samples[at : at + micro], PAD_ID) for at in range(0, len(rows), micro)]
