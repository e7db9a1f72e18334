"""The plans of a sweep's members: each exactly what `plan_request` gives for its overrides, all of them or none.

What members have in common is composed, read and hashed once. Reads disk; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.config.sampling import SamplingConfig
from launcher.config.search import SearchPath, search_path
from launcher.config.space import space_of
from launcher.config.sweep import MOST_MEMBERS, Composer, Sweep, expand
from launcher.config.validate import held_out_names
from launcher.errors import Problem, UserError, closest_first
from launcher.measures import ALL
from launcher.plan.build import Request, new_run_id, plan_composed
from launcher.plan.draw import Tried, draw
from launcher.remember import remembering
from launcher.runplan import RunPlan

FOLLOWED = Problem(
    where="then",
    message="jobs that follow training are queued for one run, and not for the members of a sweep",
    remedy="leave --then out, and write then.export=false 'then.tasks=[]' where the recipe says otherwise; "
    "`launcher export` and `launcher eval` take the best member",
)
"""What a chain is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPlan:
    """What a sweep will be, or what more of it there will be."""

    sweep_id: str
    """Its name; those of its members begin with it."""
    sweep: Sweep
    """What each member differs in."""
    plans: list[RunPlan]
    """Those of the members, in order."""


def plan_sweep(request: Request) -> SweepPlan:
    """The plans of all members; UserError that names every member that is broken, and says why."""
    search = search_path(request.config_dir, request.work_dir)
    search.require_recipe(request.recipe)
    sweep = expand(request.overrides, search)
    naming = _Naming(sweep_id=new_run_id(request.recipe), first=0, most=len(sweep.members))
    return _planned(request, search, sweep, naming, None)


def plan_drawn(
    request: Request, count: int, how: SamplingConfig, *, sweep_id: str | None = None, tried: Sequence[Tried] = ()
) -> SweepPlan:
    """The plans of `count` members that a sampler draws, beside those `tried` of the sweep `sweep_id` if there is one.

    UserError as `plan_sweep`, and where nothing measures what the sampler is to make good.
    """
    search = search_path(request.config_dir, request.work_dir)
    search.require_recipe(request.recipe)
    space = space_of(request.overrides, search)
    sweep = Sweep(fixed=space.fixed, members=draw(space, count, how, tried))
    naming = _Naming(sweep_id=sweep_id or new_run_id(request.recipe), first=len(tried), most=MOST_MEMBERS)
    return _planned(request, search, sweep, naming, how.best)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Naming:
    """How members are called."""

    sweep_id: str
    """What their names begin with."""
    first: int
    """Number of the first."""
    most: int
    """As many as the sweep can ever have: names sort as members do."""

    def run_id(self, index: int) -> str:
        return f"{self.sweep_id}-{self.first + index:0{len(str(self.most - 1))}d}"


def _planned(request: Request, search: SearchPath, sweep: Sweep, naming: _Naming, best: str | None) -> SweepPlan:
    composer = Composer(recipe=request.recipe, search=search)
    plans: list[RunPlan] = []
    broken: dict[Problem, list[int]] = {}
    with remembering():
        for index, member in enumerate(sweep.members):
            try:
                composed = composer.compose(member, sweep.fixed)
                plans.append(plan_composed(composed, request, naming.run_id(index)))
                found = list(_unfit(plans[-1], best))
            except UserError as error:
                found = list(error.problems)
            for problem in found:
                broken.setdefault(problem, []).append(index)
    if broken:
        raise UserError(*_named(broken, sweep, naming.first))
    return SweepPlan(sweep_id=naming.sweep_id, sweep=sweep, plans=plans)


def _unfit(plan: RunPlan, best: str | None) -> Iterator[Problem]:
    """Why a run cannot be a member."""
    if plan.config.then.stages:
        yield FOLLOWED
    if best is None or not best.startswith(ALL):
        # Of a step: objectives name what they like there.
        return
    if plan.config.data.eval is None:
        remedy = "name data.eval, or choose a measure of the steps: --best loss"
        yield Problem(where="--best", message=f"nothing measures {best} (data.eval=null)", remedy=remedy)
        return
    names = held_out_names(plan.config)
    assert names is not None, "a config with a plan has an objective"
    if best not in names:
        valid = ", ".join(closest_first(best, names, limit=len(names)))
        yield Problem(where="--best", message=f"{best!r} is not a held-out measure of this run", valid=valid)


def _named(broken: dict[Problem, list[int]], sweep: Sweep, first: int) -> Iterator[Problem]:
    """Each problem once, with the members that have it; the first is called `first`."""
    count = len({index for members in broken.values() for index in members})
    for problem, members in broken.items():
        shared = [text for text in sweep.members[members[0]] if all(text in sweep.members[other] for other in members)]
        with_these = f" ({' '.join(shared)})" if shared else ""
        numbers = ranges([first + index for index in members])
        some = f"member{'s' if len(members) > 1 else ''} {numbers}{with_these}"
        who = "every member" if len(members) == len(sweep.members) else some
        yield replace(problem, message=f"{problem.message} [{who}]")
    message = f"{count:,} of {len(sweep.members):,} members cannot run, so nothing was queued"
    yield Problem(where="-m", message=message)


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, runs of them as FIRST-LAST."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
