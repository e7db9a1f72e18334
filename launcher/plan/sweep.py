"""The plans of a sweep's members: each exactly what `plan_request` gives for its overrides, all of them or none.

What members have in common is composed, read and hashed once. Reads disk; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from launcher.config.search import search_path
from launcher.config.sweep import Composer, Sweep, expand
from launcher.errors import Problem, UserError
from launcher.plan.build import Request, new_run_id, plan_composed
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
    """What a sweep will be."""

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
    composer = Composer(recipe=request.recipe, search=search)
    sweep_id = new_run_id(request.recipe)
    plans: list[RunPlan] = []
    broken: dict[Problem, list[int]] = {}
    with remembering():
        for index, member in enumerate(sweep.members):
            try:
                composed = composer.compose(member, sweep.fixed)
                plans.append(plan_composed(composed, request, member_id(sweep_id, index, len(sweep.members))))
            except UserError as error:
                for problem in error.problems:
                    broken.setdefault(problem, []).append(index)
    chains = [index for index, plan in enumerate(plans) if plan.config.then.stages]
    if chains:
        broken[FOLLOWED] = chains
    if broken:
        raise UserError(*_named(broken, sweep))
    return SweepPlan(sweep_id=sweep_id, sweep=sweep, plans=plans)


def member_id(sweep_id: str, index: int, count: int) -> str:
    """Run id of member `index`, from 0; ids sort as the members do."""
    return f"{sweep_id}-{index:0{len(str(count - 1))}d}"


def _named(broken: dict[Problem, list[int]], sweep: Sweep) -> Iterator[Problem]:
    """Each problem once, with the members that have it."""
    count = len({index for members in broken.values() for index in members})
    for problem, members in broken.items():
        shared = [text for text in sweep.members[members[0]] if all(text in sweep.members[other] for other in members)]
        with_these = f" ({' '.join(shared)})" if shared else ""
        some = f"member{'s' if len(members) > 1 else ''} {ranges(members)}{with_these}"
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
