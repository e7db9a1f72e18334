"""The frozen models that a run holds beside its own: their size, and whether they can be, before anything is queued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from launcher.config.schema import Config, ShapeConfig
from launcher.errors import Problem
from launcher.models.judge import KEY as JUDGE
from launcher.models.judge import judge_model
from launcher.models.shape import looks_local, model_shape, parameter_count
from launcher.models.teacher import KEY, other_vocabulary, teacher_model, vocabulary_problem
from launcher.objectives.registry import KEY as OPTIONS
from launcher.objectives.registry import objective_of


def frozen_parameters(config: Config, shape: ShapeConfig) -> int | Problem:
    """Parameters of the frozen models, 0 where there are none; `shape` is the run's own model's."""
    needs, model = objective_of(config).needs, teacher_model(config)
    if needs.rollouts is not None:
        judge = judge_model(config)
        judging = 0 if judge is None else model_shape(judge)
        if isinstance(judging, Problem):
            return replace(judging, where=JUDGE)
        held = 0 if isinstance(judging, int) else parameter_count(judging)
        return held + (parameter_count(shape) if needs.rollouts.untrained else 0)
    teacher = needs.teacher
    if teacher is None or model is None:
        return 0
    if teacher.path is None:
        return parameter_count(shape)
    found = model_shape(model)
    if isinstance(found, Problem):
        if teacher.parameters is not None and not looks_local(teacher.path):
            return teacher.parameters
        remedy = f"download it first (hf download {teacher.path}), or set {KEY}_parameters to how many it has"
        return replace(found, where=KEY, remedy=found.remedy and remedy)
    folders = [Path(path) for path in (config.model.path, teacher.path)]
    differs = other_vocabulary(*folders) if all(folder.is_dir() for folder in folders) else None
    if differs is None and found.vocab_size != shape.vocab_size:
        differs = f"it has {found.vocab_size:,} tokens, and the model has {shape.vocab_size:,}"
    if differs is not None:
        return vocabulary_problem(teacher.path, differs)
    if teacher.top_k is not None and teacher.top_k > shape.vocab_size:
        more = f"{teacher.top_k:,} of {shape.vocab_size:,} tokens"
        return Problem(where=f"{OPTIONS}.top_k", message=more, valid=f"1 to {shape.vocab_size}, or null")
    return parameter_count(found)
