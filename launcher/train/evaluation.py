"""What a run does with its model between steps: has the untrained one speak first, evaluates on held-out rows."""

from __future__ import annotations

from collections.abc import Callable

from launcher.evaluate.held_out import held_out_all
from launcher.faultpoints import Point, reach
from launcher.objectives.registry import objective_of
from launcher.runs.events import Event, record
from launcher.train.early import EarlyStop
from launcher.train.feed import layout_of
from launcher.train.metrics import MetricsWriter
from launcher.train.parts import Ear, Parts
from launcher.train.reference import Reference, reference_all
from launcher.train.rollout import Play


def compare_all(parts: Parts, *, trained: bool) -> int | None:
    """Have the untrained model's log-probabilities, if the objective compares with them; collective.

    The signal, if any rank must stop before all are there.
    """
    objective = objective_of(parts.plan.config)
    if not objective.needs.reference:
        return None
    layout = layout_of(parts.plan.config, parts.plan.batch)
    sets = {"train": parts.samples, "eval": parts.held_out}
    for name, samples in sets.items():
        if samples is None:
            continue
        place, ear = Reference.of(parts.run, samples), Ear(parts)
        before = place.done() if parts.ranks.rank == 0 else 0
        whole = reference_all(
            parts.engine,
            samples,
            layout,
            place,
            trained=trained,
            device=parts.device,
            before_batch=parts.watchdog.step,
            stopped=ear.stopped,
        )
        if parts.ranks.rank == 0 and place.done() > before:
            record(parts.run, Event.compared, parts.ranks.attempt, set=name, samples=place.done())
        if not whole:
            return ear.signal
    return None


def evaluator(parts: Parts, play: Play | None, metrics: MetricsWriter, early: EarlyStop) -> Callable[[int], int | None]:
    """What evaluates after so many steps: the loss of held-out rows, or the answers to them; collective."""
    plan = parts.plan
    samples = parts.held_out
    if samples is None:
        return lambda step: None
    objective = parts.objective()
    layout = layout_of(plan.config, plan.batch)

    def evaluate(step: int) -> int | None:
        ear = Ear(parts)

        def before_batch() -> None:
            parts.watchdog.step()
            reach(Point.evaluate, rank=parts.ranks.rank, step=step)

        if play is not None:
            found = play.evaluate_all(samples, step=step, before_batch=before_batch, stopped=ear.stopped)
        else:
            found = held_out_all(
                parts.engine,
                objective,
                samples,
                layout,
                device=parts.device,
                before_batch=before_batch,
                stopped=ear.stopped,
            )
        if found is None:
            return ear.signal
        metrics.evaluation(step, found.named, tokens=found.tokens)
        early.note(step, found.named)
        return None

    return evaluate
