"""Which members a sampler of Optuna's asks for, given what the earlier ones came to.

Owns all use of Optuna, which is imported only here and only when something is to be drawn. A study lives as long as one
call: it is built from the sweep's own records, and nothing of it is kept.
"""

from __future__ import annotations

import importlib.util
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.config.sampling import MOST_SEED, Sampler, SamplingConfig
from launcher.config.space import Axis, Space, Values
from launcher.config.sweep import MOST_MEMBERS
from launcher.errors import Problem, UserError
from launcher.seeds import derive

PATIENCE = 20
"""After so many members in a row that there are already, any other one is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """A member that there is already."""

    overrides: list[str]
    """What it differs in."""
    cost: float | None
    """What it came to, better the lower it is; None where nothing can be learnt from it, or not yet."""
    active: bool
    """Whether it is queued or running: a sampler that learns keeps away from it."""


def draw(space: Space, count: int, how: SamplingConfig, tried: Sequence[Tried]) -> list[list[str]]:
    """The overrides of `count` more members, all different; UserError where there cannot be so many.

    The same arguments give the same members. A sampler that does not learn goes on where it has stopped: `tried` are
    its first draws then.
    """
    _require_room(space, count, tried)
    optuna = _optuna()
    seen = {tuple(one.overrides) for one in tried}
    # One that learns has its study for a memory; one that does not begins anew, and what it drew before is passed over.
    seed = derive(how.seed, len(tried)) % (MOST_SEED + 1) if how.sampler.learns else how.seed
    chance = random.Random(derive(how.seed, len(tried)))
    drawn: list[list[str]] = []
    with warnings.catch_warnings():
        # Of what is experimental in Optuna, and of Sobol points that are no power of 2.
        warnings.simplefilter("ignore")
        study = optuna.create_study(sampler=_sampler(optuna, how, seed))
        if how.sampler.learns:
            study.add_trials(_trials(optuna, space, tried))
        patience = PATIENCE if how.sampler.learns else PATIENCE + len(tried)
        while len(drawn) < count:
            asked = _asked(optuna, study, space, patience, passing_over=how.sampler.learns)
            new = (member for member in asked if tuple(member) not in seen)
            member = next(new, None) or _any_other(space, seen, chance)
            seen.add(tuple(member))
            drawn.append(member)
    return drawn


def _require_room(space: Space, count: int, tried: Sequence[Tried]) -> None:
    where = "--more" if tried else "--trials"
    if count < 1 or len(tried) + count > MOST_MEMBERS:
        there = f" together, {len(tried):,} of which there are" if tried else ""
        valid = f"1 or more; at most {MOST_MEMBERS:,} members{there}"
        raise UserError(Problem(where=where, message=f"{count:,} is out of range", valid=valid))
    left = None if space.size is None else space.size - len({tuple(one.overrides) for one in tried})
    if left is not None and left < count:
        left_over = f", {left:,} of which are left" if tried else ""
        message = f"{count:,} members cannot all be different: there are {space.size:,} combinations{left_over}"
        remedy = "ask for fewer" if tried else "ask for fewer, or leave --trials out, which queues all of them"
        raise UserError(Problem(where=where, message=message, remedy=remedy))


def _optuna() -> Any:
    missing = [name for name in ("optuna", "scipy") if importlib.util.find_spec(name) is None]
    if missing:
        message = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        remedy = "pip install 'zero-launcher[optuna]', here; the nodes need none"
        raise UserError(Problem(where="--trials", message=message, remedy=remedy))
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _sampler(optuna: Any, how: SamplingConfig, seed: int) -> Any:
    if how.sampler is Sampler.tpe:
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=how.startup, multivariate=True, constant_liar=True
        )
    if how.sampler is Sampler.gp:
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=how.startup)
    if how.sampler is Sampler.qmc:
        return optuna.samplers.QMCSampler(seed=seed, scramble=True)
    return optuna.samplers.RandomSampler(seed=seed)


def _distribution(optuna: Any, axis: Axis) -> Any:
    kinds = optuna.distributions
    if isinstance(axis, Values):
        places = len(axis.values)
        return kinds.IntDistribution(0, places - 1) if axis.ordered else kinds.CategoricalDistribution(range(places))
    if axis.whole:
        return kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return kinds.FloatDistribution(axis.low, axis.high, log=axis.log)


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    return {axis.key: _distribution(optuna, axis) for axis in space.axes}


def _trials(optuna: Any, space: Space, tried: Sequence[Tried]) -> Iterator[Any]:
    """The members that there are, as trials of a study."""
    states, distributions = optuna.trial.TrialState, _distributions(optuna, space)
    for one in tried:
        try:
            points = dict(zip(distributions, space.points(one.overrides), strict=True))
        except ValueError:
            # A glob() finds other files than it did.
            continue
        state = states.COMPLETE if one.cost is not None else states.RUNNING if one.active else states.FAIL
        yield optuna.trial.create_trial(state=state, value=one.cost, params=points, distributions=distributions)


def _asked(optuna: Any, study: Any, space: Space, most: int, *, passing_over: bool) -> Iterator[list[str]]:
    """What the sampler would have next, time and again, whether or not there is such a member."""
    distributions = _distributions(optuna, space)
    for _ in range(most):
        trial = study.ask(distributions)
        yield space.member([trial.params[axis.key] for axis in space.axes])
        if passing_over:
            # Nobody will run that one: as it is, the sampler would keep away from the place twice.
            study.tell(trial, state=optuna.trial.TrialState.FAIL)


def _any_other(space: Space, seen: set[tuple[str, ...]], chance: random.Random) -> list[str]:
    """A new member, wherever it lies. There is one, or room would have been denied."""
    while True:
        member = space.member([axis.anywhere(chance) for axis in space.axes])
        if tuple(member) not in seen:
            return member
