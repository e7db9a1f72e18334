"""Who judges answers: a function of the user's, read from the run's copy of their file, or a reward model.

The function is code that the user named in their config, and runs as they do. Nothing from data, models or checkpoints
is run. Both are held to giving numbers.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from launcher.data.feed.batches import MicroBatch
from launcher.errors import Problem, UserError
from launcher.models.forward import last_outputs
from launcher.models.judge import KEY

FUNCTION = "reward"
_MOST_CHARS = 200


class Judge:
    """`reward(prompt, answer, reference)` of one file."""

    def __init__(self, source: str, path: Path) -> None:
        """Runs the file's text, `source`; UserError where that fails or leaves no such function."""
        self._path = path
        names: dict[str, Any] = {"__name__": "launcher_reward", "__file__": str(path)}
        try:
            exec(compile(source, str(path), "exec"), names)
        except Exception as error:  # a user's file may raise anything
            raise self._wrong(f"{path.name} cannot be loaded", error) from error
        function = names.get(FUNCTION)
        if not callable(function):
            raise UserError(
                Problem(where=KEY, message=f"{path} has no function {FUNCTION}", valid=f"def {FUNCTION}(prompt, …)")
            )
        self._function: Callable[[str, str, str], Any] = function

    def __call__(self, prompt: str, answer: str, reference: str) -> float:
        """The reward of one answer; UserError where the function raises or gives no finite number."""
        asked = f"for the prompt {_cut(prompt)} and the answer {_cut(answer)}"
        try:
            given = self._function(prompt, answer, reference)
            reward = float(given)
        except Exception as error:  # a user's function may raise anything
            raise self._wrong(f"{FUNCTION} failed {asked}", error) from error
        if not math.isfinite(reward):
            remedy = "give a number for every answer, however bad"
            raise UserError(Problem(where=KEY, message=f"{FUNCTION} gave {given!r} {asked}", remedy=remedy))
        return reward

    def _wrong(self, what: str, error: Exception) -> UserError:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(self._path)
        ]
        place = f", line {lines[-1]}" if lines else ""
        message = f"{what}: {type(error).__name__}: {error} ({self._path}{place})"
        return UserError(
            Problem(where=KEY, message=message, remedy=f"correct the file, then `launcher resume {RESUME}`")
        )


class Scorer:
    """A reward model, whose score of an answer is its output at the answer's last token."""

    def __init__(self, held: Any, device: torch.device) -> None:
        self._held, self._device = held, device

    def __call__(self, batch: MicroBatch) -> list[float]:
        """The rewards of a batch's rows; collective under ZeRO-3. UserError where one is no finite number."""
        with torch.no_grad():
            scores: list[float] = last_outputs(self._held, batch.to(self._device))[:, 0].double().tolist()
        bad = [score for score in scores if not math.isfinite(score)]
        if bad:
            remedy = "look at the reward model's own held-out accuracy, and at precision=bf16"
            raise UserError(Problem(where=KEY, message=f"the reward model gave {bad[0]} for an answer", remedy=remedy))
        return scores


RESUME = "RUN --accept-changes"
"""The file is among what decides a run's result."""


def _cut(text: str) -> str:
    return repr(text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}…")
