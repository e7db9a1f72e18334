"""How the members of a sweep are drawn where not every combination is one. Its types; the values live in
`conf/sweep.yaml`, which is no group: a run does not know how it was come by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from launcher.decode import BROKEN, read
from launcher.errors import Problem, UserError

MOST_SEED = 2**32 - 1
"""Of numpy's generators, which Optuna draws with."""


class Sampler(Enum):
    """Optuna's samplers that are for one measure and any space."""

    tpe = "tpe"
    gp = "gp"
    qmc = "qmc"
    random = "random"

    @property
    def learns(self) -> bool:
        """Whether what members came to changes what is drawn."""
        return self in (Sampler.tpe, Sampler.gp)


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """What a sampler is told beside the space."""

    sampler: Sampler
    """Which one."""
    best: str
    """The measure to make good, by its name in metrics.jsonl."""
    seed: int
    """The same seed draws the same members."""
    startup: int
    """Members that must be measured before a sampler that learns does; until then it draws at random."""


OPTIONS = {"sampler": "--sampler", "best": "--best", "seed": "--sample-seed"}
"""What is typed in place of a value."""


def read_sampling(values: Mapping[str, Any], typed: Mapping[str, Any]) -> SamplingConfig:
    """The values, but for those that were typed (None: it was not); UserError with all that is wrong with them."""
    typed = {name: value for name, value in typed.items() if value is not None}
    problems: list[Problem] = []
    config = read(SamplingConfig, {**values, **typed}, "", problems)
    if config is not BROKEN:
        problems += _problems(config)
    if problems:
        raise UserError(*(replace(problem, where=_where(problem.where, typed)) for problem in problems))
    assert isinstance(config, SamplingConfig)
    return config


def _where(name: str, typed: Mapping[str, Any]) -> str:
    return OPTIONS[name] if name in typed else f"conf/sweep.yaml: {name}"


def _problems(config: SamplingConfig) -> Iterator[Problem]:
    """What is wrong with the numbers."""
    if not 0 <= config.seed <= MOST_SEED:
        yield Problem(where="seed", message=f"{config.seed} is out of range", valid=f"0 to {MOST_SEED}")
    if config.startup < 1:
        yield Problem(where="startup", message=f"{config.startup} is out of range", valid="1 or more")
