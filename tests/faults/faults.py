"""The faults: name, weight, where each strikes, and what must follow. How outside ones are done is `outside`'s."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import launcher
from launcher.config.schema import CheckpointConfig
from launcher.failures import FailureClass
from launcher.faultpoints import SAVE_POINTS, Point
from tests.faults import damage, outside
from tests.faults.scene import Scene

SAVE_EVERY = 4
"""Steps between checkpoints in every trial."""
ASYNCHRONOUS = any(entry.name == "asynchronous" for entry in dataclasses.fields(CheckpointConfig))
"""Whether this version can save while training goes on."""
MOST_LOST = SAVE_EVERY * (2 if ASYNCHRONOUS else 1)
"""Steps since the checkpoint before; one save may be under way when the next is due."""


class Place(Enum):
    """Which steps a fault can strike at."""

    step = "step"
    """Any."""
    save = "save"
    """One with a checkpoint."""
    evaluation = "evaluation"
    """One with an evaluation."""
    start = "start"
    """None: it strikes at the next start of the run."""
    end = "end"
    """None: it strikes once all steps are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What must follow."""

    ends: bool | None = True
    """Whether it ends the attempt; None if either is right."""
    classes: frozenset[FailureClass | None] = frozenset()
    """What the outcome may call it; empty for anything."""
    names_node: bool = False
    """Whether the outcome must name the node that was struck."""
    most_lost: int = 0
    """Steps that may have to be done again."""
    by_hand: bool = False
    """Whether the run may stop for its user to resume it."""
    starts: int = 1
    """Starts that it may take: a restarted slurmctld (22.05) now and then refuses a requeued job its step (`Invalid
    generic resource`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One way to break a run."""

    name: str
    """A row of the table."""
    weight: int
    """How often it comes, against the others."""
    point: Point
    """Where a rank meets it."""
    action: str
    """What happens to the rank there; `stop` also holds it still while something happens outside."""
    place: Place
    """Which steps."""
    expected: Expected
    """What follows."""
    outside: Callable[[Scene], None] | None = None
    """Done while the rank stands still."""
    afterwards: Callable[[Scene], None] | None = None
    """Done between the end of the attempt and the next start."""
    overrides: tuple[str, ...] = ()
    """Of the run."""
    environment: dict[str, str] = field(default_factory=dict)
    """Of the submission."""
    patient: bool = False
    """Holds a rank still for longer than the watchdog allows, which must be slow then."""
    hangs: bool = False
    """Waits for the watchdog, which must be quick then."""
    small_disk: bool = False
    """Needs a file system that can be filled."""


def _of(*classes: FailureClass | None) -> frozenset[FailureClass | None]:
    return frozenset(classes)


DIED = Expected(classes=_of(FailureClass.lost_process), names_node=True, most_lost=MOST_LOST)
TOLD = Expected(classes=_of(FailureClass.preempted), ends=None)
HUNG = Expected(classes=_of(FailureClass.hang), most_lost=MOST_LOST)
RAISED = {
    "out_of_memory": FailureClass.out_of_memory,
    "host_memory": FailureClass.out_of_host_memory,
    "gpu_error": FailureClass.gpu_error,
    "communication": FailureClass.communication,
    "disk_full": FailureClass.disk_full,
    "bug": FailureClass.bug,
}
ACTIONS = {
    "kill": DIED,
    "abort": DIED,
    "stop": dataclasses.replace(HUNG, names_node=True),
    "hang": HUNG,
    "term": TOLD,
    "usr2": dataclasses.replace(TOLD, classes=_of(FailureClass.time_limit)),
    **{
        action: Expected(
            classes=_of(failure),
            most_lost=MOST_LOST,
            names_node=action not in ("disk_full", "communication"),
            by_hand=failure not in (FailureClass.gpu_error, FailureClass.communication),
        )
        for action, failure in RAISED.items()
    },
}
"""What must follow each action of `launcher.faultpoints`, wherever in training it strikes."""
PLACES = {
    Point.start: Place.start,
    Point.joined: Place.start,
    Point.loaded: Place.start,
    Point.step: Place.step,
    Point.data: Place.step,
    Point.loss: Place.step,
    Point.evaluate: Place.evaluation,
    **dict.fromkeys(SAVE_POINTS, Place.save),
}


def passed(point: Point) -> bool:
    """Whether this version of the launcher passes the point at all."""
    sources = (path for path in Path(launcher.__file__).parent.rglob("*.py") if path.name != "faultpoints.py")
    return any(f"Point.{point.name}" in path.read_text() for path in sources)


def _at(point: Point, action: str, weight: int) -> Fault:
    expected = ACTIONS[action]
    if point in SAVE_POINTS and action in RAISED:
        # A checkpoint that cannot be written need not end the attempt.
        expected = dataclasses.replace(expected, ends=None, most_lost=2 * MOST_LOST, by_hand=True)
    return Fault(
        name=f"{action} at {point.value}",
        weight=weight,
        point=point,
        action=action,
        place=PLACES[point],
        expected=expected,
        hangs=action in ("hang", "stop"),
    )


def _inside() -> Iterator[Fault]:
    for point in SAVE_POINTS:
        yield _at(point, "kill", 3)
        yield _at(point, "term", 1)
    for point in (Point.start, Point.joined, Point.loaded, Point.evaluate, Point.loss, Point.data):
        yield _at(point, "kill", 1)
    for action, weight in (("kill", 4), ("abort", 1), ("stop", 1), ("hang", 1), ("term", 2), ("usr2", 2)):
        yield _at(Point.step, action, weight)
    for point in (Point.data, Point.evaluate):
        yield from (_at(point, action, 1) for action in ("hang", "term"))
    for point in (Point.save_begin, Point.save_written, Point.save_manifest):
        yield from (_at(point, action, 1) for action in ("hang", "stop", "usr2", "abort"))
    for point in (Point.save_writing, Point.save_manifest, Point.save_pointer):
        yield _at(point, "disk_full", 1)
    for action in RAISED:
        yield _at(Point.step, action, 1)
    yield from (_at(point, "usr2", 1) for point in (Point.start, Point.loaded))
    after = Expected(ends=False)
    yield Fault(name="kill at end", weight=1, point=Point.end, action="kill", place=Place.end, expected=after)
    lost = dataclasses.replace(DIED, names_node=False)
    yield Fault(
        name="kill at prologue", weight=1, point=Point.prologue, action="kill", place=Place.start, expected=lost
    )
    yield Fault(name="kill at epilogue", weight=1, point=Point.epilogue, action="kill", place=Place.end, expected=after)


def _while_still(name: str, act: Callable[[Scene], None], expected: Expected, weight: int = 1, **more: object) -> Fault:
    """A rank stands still before a step, and something happens outside."""
    values = {"name": name, "weight": weight, "point": Point.step, "action": "stop", "place": Place.step}
    return Fault(**{**values, "expected": expected, "outside": act, **more})  # type: ignore[arg-type]


def _damaged(name: str, harm: Callable[..., str], weight: int = 1, *, by_hand: bool = False) -> Fault:
    return Fault(
        name=name,
        weight=weight,
        point=Point.step,
        action="kill",
        place=Place.step,
        expected=dataclasses.replace(DIED, most_lost=MOST_LOST + SAVE_EVERY, by_hand=by_hand),
        afterwards=outside.forged(harm) if by_hand else outside.damaged(harm),
    )


WANDB_DOWN = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}


def _outside() -> Iterator[Fault]:
    stopped = Expected(classes=_of(FailureClass.preempted, FailureClass.time_limit))
    gone = Expected(
        classes=_of(FailureClass.node_failure, FailureClass.lost_process, FailureClass.communication),
        most_lost=MOST_LOST,
    )
    without = dataclasses.replace(DIED, starts=3)
    yield _while_still("srun killed", outside.kill_srun, dataclasses.replace(DIED, names_node=False), 2)
    yield _while_still("other rank stopped", outside.stop_other, dataclasses.replace(HUNG, names_node=True), hangs=True)
    yield _while_still("preempted by a job", outside.preempt, stopped, 2, patient=True)
    yield _while_still("requeued by an admin", outside.requeue, stopped, 2, patient=True)
    yield _while_still("time limit", outside.time_limit, stopped, 1, patient=True)
    yield _while_still("slurmd restarted", outside.restart_slurmd, Expected(ends=False), 1, patient=True)
    yield _while_still("node dies", outside.node_dies, gone, 1, patient=True)
    yield _while_still(
        "slurmctld restarted as a rank dies", outside.rank_dies_without_controller, without, patient=True
    )
    full = Expected(
        classes=_of(FailureClass.disk_full, FailureClass.lost_process, FailureClass.node_failure),
        ends=None,
        most_lost=8 * SAVE_EVERY,
        by_hand=True,
    )
    yield _while_still("disk filled up", outside.fill_disk, full, 1, small_disk=True, patient=True)
    yield _while_still(
        "cancelled, then two resumes at once", outside.two_controllers, Expected(by_hand=True), 2, patient=True
    )
    yield _damaged("newest checkpoint truncated", damage.truncate)
    yield _damaged("shard of the newest checkpoint missing", damage.remove)
    yield _damaged("bit flipped in the newest checkpoint", damage.flip, 2)
    yield _damaged("manifest of the newest checkpoint truncated", damage.cut_manifest)
    yield _damaged("hostile pickle in the newest checkpoint", damage.hostile)
    yield _damaged("hostile pickle with a manifest to match", damage.hostile_and_vouched_for, by_hand=True)
    yield dataclasses.replace(
        _at(Point.step, "kill", 1),
        name="kill at step, W&B down",
        overrides=("tracking=online",),
        environment=WANDB_DOWN,
    )


FAULTS = {fault.name: fault for fault in (*_inside(), *_outside())}
"""All of them, by name."""

QUICK = (
    *(f"kill at {point.value}" for point in SAVE_POINTS),
    "kill at step",
    "term at step",
    "usr2 at step",
    "hang at step",
    "srun killed",
    "preempted by a job",
    "bit flipped in the newest checkpoint",
    "hostile pickle in the newest checkpoint",
    "slurmctld restarted as a rank dies",
    "cancelled, then two resumes at once",
)
"""Twenty that differ most for the time they take: what `make test` tries."""
