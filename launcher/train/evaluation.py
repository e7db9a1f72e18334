"""What a run does with its model between steps: has the untrained one speak first, evaluates on held-out rows, asks it
the run's prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from launcher.config.evaluate import scored_sets
from launcher.evaluate.answers import Exam
from launcher.evaluate.held_out import Summed, by_slice, measured, summed_all
from launcher.evaluate.samples import Interview
from launcher.faultpoints import Point, reach
from launcher.objectives.protocol import Objective
from launcher.objectives.registry import objective_of
from launcher.runs.events import Event, record
from launcher.train.early import EarlyStop
from launcher.train.feed import layout_of
from launcher.train.held_out import changes, gaps, losses_of, untrained_all
from launcher.train.metrics import GAP_STEPS, MetricsWriter
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
    sets = {"train": parts.samples, **{key: held_out.samples for key, held_out in parts.held_out.items()}}
    for name, samples in sets.items():
        place, ear = Reference.of(parts.run, samples), Ear(parts.stop, parts.device)
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


def evaluator_all(
    parts: Parts, play: Play | None, metrics: MetricsWriter, early: EarlyStop, start: int
) -> Callable[[int], int | None]:
    """What evaluates after so many steps, from `start` on, and records it: the losses of held-out rows, and what
    answers to them are worth. Making it is collective, and so is calling it.

    It gives the signal where any rank must stop before all is measured: then nothing is recorded of it.
    """
    plan = parts.plan
    if not parts.held_out:
        return lambda step: None
    objective, layout = parts.objective(), layout_of(plan.config, plan.batch)
    untrained = untrained_all(parts.run, parts.held_out)
    interview = Interview(parts.run, plan, parts.ranks.attempt, parts.device) if plan.config.evaluate.prompts else None
    exam = Exam(parts, start) if scored_sets(plan.config.evaluate.answers, parts.held_out) else None

    def evaluate(step: int) -> int | None:
        ear = Ear(parts.stop, parts.device)

        def before_pass() -> None:
            parts.watchdog.step()
            reach(Point.evaluate, rank=parts.ranks.rank, step=step)

        sums: dict[str, Summed] = {}
        for key, held_out in parts.held_out.items():
            if play is not None:
                found = play.evaluate_all(held_out, step=step, before_batch=before_pass, stopped=ear.stopped)
            else:
                found = summed_all(
                    parts.engine,
                    objective,
                    held_out,
                    layout,
                    device=parts.device,
                    before_batch=before_pass,
                    stopped=ear.stopped,
                )
            if found is None:
                return ear.signal
            sums[key] = found
        if interview is not None and not interview.ask_all(parts.engine, step, before_pass, ear.stopped):
            return ear.signal
        scores = {} if exam is None else exam.ask_all(step, before_pass, ear.stopped)
        if scores is None:
            return ear.signal
        told = measured(objective, sums)
        losses = losses_of(told, parts.held_out)
        if step == 0:
            untrained.update(losses)
        window = min(step, GAP_STEPS, plan.config.train.eval_every or GAP_STEPS)
        told |= changes(losses, untrained) | gaps(losses, list(metrics.recent), window) | scores
        # The evaluation's own record comes last: where it is, all of the evaluation is.
        slices = _slices(parts, objective, sums)
        if slices:
            metrics.slices(step, slices)
        metrics.evaluation(step, told, tokens=sum(int(one.tokens.sum()) for one in sums.values()))
        early.note(step, told)
        return None

    return evaluate


def _slices(parts: Parts, objective: Objective, sums: Mapping[str, Summed]) -> dict[str, Any]:
    return {
        key: by_slice(objective, sums[key], held_out.groups)
        for key, held_out in parts.held_out.items()
        if held_out.groups is not None
    }
