"""The model that a run learns from or keeps close to: which one it is, and whether it speaks of the same tokens.

No torch and no weights: plans, prologue and ranks ask alike.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.config.schema import Config, Init, ModelConfig
from launcher.errors import Problem, UserError
from launcher.models.source import resolve
from launcher.objectives.registry import objective_of

KEY = "objective.options.teacher"


def teacher_model(config: Config) -> ModelConfig | None:
    """The objective's teacher, to be held like the run's own model; None where it has none."""
    teacher = objective_of(config).needs.teacher
    if teacher is None:
        return None
    if teacher.path is None:
        return config.model
    return replace(config.model, path=teacher.path, revision=teacher.revision, init=Init.pretrained, shape=None)


def teacher_folder(config: Config, model: Path) -> Path | None:
    """Where the teacher's files are, fetched now if need be; `model` is where the run's own model's are.

    UserError where they cannot be had, or their tokens are not the model's.
    """
    teacher = teacher_model(config)
    if teacher is None:
        return None
    folder = resolve(teacher, key=KEY)
    differs = other_vocabulary(model, folder)
    if differs is not None:
        raise UserError(vocabulary_problem(teacher.path, differs))
    return folder


def other_vocabulary(student: Path, teacher: Path) -> str | None:
    """How the vocabularies of two model folders differ; None where a token is the same to both.

    Distributions are compared number by number. What a folder does not hold is not compared.
    """
    own, others = (_size(folder) for folder in (student, teacher))
    if own is not None and others is not None and own != others:
        return f"it has {others:,} tokens, and the model has {own:,}"
    files = [folder / "tokenizer.json" for folder in (student, teacher)]
    if not all(file.is_file() for file in files):
        return None
    texts = [file.read_bytes() for file in files]
    if texts[0] == texts[1]:
        return None
    mine, theirs = (_tokens(json.loads(text)) for text in texts)
    differing = sorted(number for number in mine.keys() | theirs.keys() if mine.get(number) != theirs.get(number))
    if not differing:
        return None
    first = differing[0]
    words = f"{len(differing):,} tokens are not the model's"
    return f"{words}: number {first} is {theirs.get(first)!r}, and the model's is {mine.get(first)!r}"


def vocabulary_problem(teacher: str, differs: str) -> Problem:
    """The same for those who must choose another one."""
    return Problem(
        where=KEY,
        message=f"{teacher} has another vocabulary than the model: {differs}",
        valid="a model with the same tokenizer and vocab_size",
        remedy="choose another teacher, or train on its answers (objective=sft)",
    )


def _size(folder: Path) -> int | None:
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return int(document.get("text_config", document)["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError):
        # Whoever loads the model tells what is wrong with it.
        return None


def _tokens(tokenizer: dict[str, Any]) -> dict[int, str]:
    """The tokens of a tokenizer.json by number."""
    vocabulary = tokenizer["model"].get("vocab", {})
    if isinstance(vocabulary, list):
        found = {number: str(token) for number, (token, *_) in enumerate(vocabulary)}
    else:
        found = {int(number): str(token) for token, number in vocabulary.items()}
    return found | {int(added["id"]): str(added["content"]) for added in tokenizer.get("added_tokens", [])}
