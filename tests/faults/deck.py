"""Which faults, in which run, at which step and rank: a function of the seed alone. Knows no cluster."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.faultpoints import SAVE_POINTS, Point
from tests.faults.faults import ASYNCHRONOUS, SAVE_EVERY, Fault, Place

FAULTS_PER_RUN = 4
WINDOW = 2 * SAVE_EVERY
"""Steps that belong to one fault of a run: two checkpoints, and an evaluation at its end."""
TOTAL_STEPS = FAULTS_PER_RUN * WINDOW
STAGES = (1, 2, 3)
RANK0_ONLY = SAVE_POINTS[SAVE_POINTS.index(Point.save_manifest) :]
"""Points that no other rank passes."""
STARTS_PER_RUN = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Blow:
    """A fault, and where it strikes in a run."""

    fault: Fault
    """What."""
    step: int | None
    """Optimiser step; None where the fault knows none."""
    rank: int | None
    """Rank; None for a point outside the ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ordeal:
    """One run and all that befalls it."""

    number: int
    """From 0; with the seed it decides the rest."""
    stage: int
    """ZeRO stage."""
    asynchronous: bool
    """Whether checkpoints are written in the background."""
    blows: tuple[Blow, ...]
    """In the order in which they fall."""


def deal(faults: Sequence[Fault], trials: int, seed: int) -> Iterator[Fault]:
    """Every fault as often as its weight says before any comes again; then anew."""
    chance = random.Random(seed)
    dealt = 0
    while faults:
        # The first round has each fault once: few trials see as many of them as they can.
        cards = [fault for fault in faults for _ in range(fault.weight if dealt else 1)]
        chance.shuffle(cards)
        for card in cards:
            if dealt == trials:
                return
            dealt += 1
            yield card


def ordeals(faults: Sequence[Fault], seed: int, stages: Sequence[int] = STAGES) -> list[Ordeal]:
    """Runs of a few faults each, as they get along with one another."""
    waiting, found = list(faults), list[Ordeal]()
    while waiting:
        chosen: list[Fault] = []
        for fault in list(waiting):
            if len(chosen) < FAULTS_PER_RUN and _gets_along(fault, chosen):
                chosen.append(fault)
                waiting.remove(fault)
        found.append(_ordeal(len(found), chosen, seed, stages))
    return found


def _gets_along(fault: Fault, others: Sequence[Fault]) -> bool:
    if fault.place is Place.end:
        return all(other.place is not Place.end for other in others)
    if fault.place is Place.start:
        return sum(other.place is Place.start for other in others) < STARTS_PER_RUN
    if any((other.patient and fault.hangs) or (other.hangs and fault.patient) for other in others):
        return False
    if fault.environment and any(other.environment for other in others):
        return False
    return not (fault.small_disk and any(other.small_disk for other in others))


ORDER = {Place.start: 0, Place.end: 2}
"""A fault of the next start comes first: the one before it need not end its attempt."""


def _ordeal(number: int, faults: Sequence[Fault], seed: int, stages: Sequence[int]) -> Ordeal:
    chance = random.Random(f"{seed}/{number}")
    ordered = sorted(faults, key=lambda fault: ORDER.get(fault.place, 1))
    return Ordeal(
        number=number,
        stage=chance.choice(list(stages)),
        asynchronous=ASYNCHRONOUS and chance.random() < 0.5,
        blows=tuple(_blow(fault, window, chance) for window, fault in enumerate(ordered)),
    )


def _blow(fault: Fault, window: int, chance: random.Random) -> Blow:
    # A run that is told to stop goes on for a step or two; the next window begins after them.
    first, last = window * WINDOW + 3, (window + 1) * WINDOW
    told = fault.action in ("term", "usr2") or fault.outside is not None or fault.expected.ends is None
    if window == FAULTS_PER_RUN - 1 and told:
        # Told at the very end, a run is done before it can stop.
        last -= 3
    steps = {
        Place.step: range(first, last + 1),
        Place.save: [step for step in range(first, last + 1) if step % SAVE_EVERY == 0],
        Place.evaluation: [(window + 1) * WINDOW],
    }.get(fault.place)
    outside_ranks = fault.point in (Point.prologue, Point.epilogue)
    return Blow(
        fault=fault,
        step=None if steps is None else chance.choice(list(steps)),
        rank=None if outside_ranks else 0 if fault.point in RANK0_ONLY else chance.randrange(2),
    )
