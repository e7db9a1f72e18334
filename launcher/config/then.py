"""Group `then`: what follows a training that completed, each stage a job of its own. Its types, and the rules between
its values, which live in `conf/` like those of `schema`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from launcher.errors import Problem

if TYPE_CHECKING:
    from launcher.config.schema import Config


class Stage(Enum):
    """What can follow, in this order."""

    export = "export"
    eval = "eval"


@dataclass(frozen=True, kw_only=True, slots=True)
class ThenConfig:
    """Export and benchmarks, queued together with the training."""

    export: bool
    """Write a Hugging Face model directory."""
    tasks: list[str]
    """Benchmarks to ask the export: tasks of lm-evaluation-harness, and task files (.yaml). Any asks for an export."""
    limit: int | None
    """First so many questions of each task; null asks all."""
    few_shot: int | None
    """Worked examples before each question; null is as the task says."""
    chat: bool
    """Ask in the model's chat template."""
    batch_size: int
    """Questions at a time."""

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What follows, in its order."""
        if self.tasks:
            return (Stage.export, Stage.eval)
        return (Stage.export,) if self.export else ()


def then_problems(config: Config) -> Iterator[Problem]:
    """What is wrong with them."""
    then = config.then
    for key, value, least in (
        ("limit", then.limit, 1),
        ("few_shot", then.few_shot, 0),
        ("batch_size", then.batch_size, 1),
    ):
        if value is not None and value < least:
            yield Problem(where=f"then.{key}", message=f"{value} is out of range", valid=f"{least} or more")
    if not all(then.tasks) or len(set(then.tasks)) < len(then.tasks):
        valid = "[hellaswag,arc_easy], [tasks/mine.yaml] …"
        yield Problem(where="then.tasks", message=f"{then.tasks} are not tasks, each once", valid=valid)
