"""A few of the model's answers with what they are worth, written by rank 0, for people to read: rollouts.jsonl those of
every rollout and evaluation, answers.jsonl those to held-out rows that are scored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from launcher.publish import append_record

ShownAnswer: TypeAlias = dict[str, Any]
"""{step, question, answer, reference, attempt, …}: of a rollout reward, and advantage or held_out; else set and scores.
`step` counts from 1, and that of held-out questions is how many steps were made before."""
MOST_CHARS = 4000
"""Of a text; the rest is cut off."""


class Shown:
    """Writes the file; without a path (every rank but 0) nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def add(self, answers: Sequence[ShownAnswer]) -> None:
        """Append these."""
        if self._path is None:
            return
        try:
            for answer in answers:
                append_record(self._path, {name: _cut(value) for name, value in answer.items()})
        except OSError as error:
            # Training outlives a full disk, and these are only looked at.
            print(f"{self._path.name} takes no more ({error.strerror})", flush=True)

    def forget_after(self, step: int) -> None:
        """Cut off what comes after step `step`: a run that goes on from there writes it again."""
        if self._path is None or not self._path.exists():
            return
        with self._path.open("r+b") as file:
            end = 0
            for line in file:
                if not line.endswith(b"\n") or _step(line) > step:
                    break
                end += len(line)
            file.truncate(end)


def _step(line: bytes) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):
        return 0


def _cut(value: Any) -> Any:
    return f"{value[:MOST_CHARS]}…" if isinstance(value, str) and len(value) > MOST_CHARS else value
