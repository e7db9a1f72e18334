"""Objectives by name, and what users write of their options."""

from __future__ import annotations

from launcher.errors import Problem
from launcher.objectives import registry

REQUIRES = ("classify", "distill", "grpo")
"""Objectives with an option that nobody can know beforehand."""


def problems(name: str, **options: object) -> list[Problem]:
    found: list[Problem] = []
    assert (registry.checked(name, options, found) is None) == bool(found)
    return found


def test_every_objective_stands_with_its_own_defaults() -> None:
    for name in registry.names():
        if name not in REQUIRES:
            assert registry.load(name).name == name


def test_a_typo_in_an_option_names_the_nearest() -> None:
    (found,) = problems("dpo", betta=0.2)
    assert found.where == "objective.options.betta"
    assert found.valid.startswith("objective.options.beta")


def test_values_out_of_range_are_told_together() -> None:
    found = problems("dpo", beta=-1, label_smoothing=0.7)
    assert [problem.where for problem in found] == ["objective.options.beta", "objective.options.label_smoothing"]


def test_classes_must_be_named() -> None:
    (found,) = problems("classify")
    assert found.where == "objective.options.labels"
    assert "labels=[negative,positive]" in found.valid


def test_a_teacher_must_be_named() -> None:
    (found,) = problems("distill")
    assert found.where == "objective.options.teacher"
    assert [problem.where for problem in problems("distill", teacher="x", temperature=0, beta=1, hard=1)] == [
        f"objective.options.{name}" for name in ("temperature", "beta", "hard")
    ]
    (found,) = problems("distill", teacher="x", top_k=0)
    assert found.where == "objective.options.top_k"


def test_options_that_name_folders_are_made_absolute() -> None:
    options = {"teacher": "models/big", "beta": 0.2}
    assert registry.located("distill", options, lambda path: f"/mine/{path}") == {
        "teacher": "/mine/models/big",
        "beta": 0.2,
    }
    assert registry.located("dpo", {"beta": 0.2}, lambda path: f"/mine/{path}") == {"beta": 0.2}
