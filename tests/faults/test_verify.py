"""The judge is not blind: a run's records, doctored in one place, are found out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from launcher.data.feed.order import Order, checksum
from launcher.publish import append_record
from launcher.rundir import RunDir
from launcher.runs.events import Event, record
from tests.faults.verify import Problem, checkpoints, curve, loads, reference, samples

SEED, BATCH, ROWS, TOTAL = 7, 4, 10, 6

Records = list[dict[str, Any]]


def step_record(step: int, attempt: int = 1) -> dict[str, Any]:
    rows = Order(seed=SEED, sizes=(ROWS,)).samples_of_step(step - 1, BATCH).tolist()
    numbers = {"loss": 1 / step, "grad_norm": 0.1 * step, "lr": 1e-3, "tokens": 10 * step}
    return {"step": step, **numbers, "samples": checksum(rows), "attempt": attempt}


@pytest.fixture
def records() -> Records:
    """Of a run that was broken after step 4 and went on from step 2."""
    first = [step_record(step) for step in range(1, 5)]
    evaluation = {"step": 3, "eval_loss": 0.5, "eval_tokens": 9, "attempt": 2}
    second = [step_record(step, attempt=2) for step in range(3, TOTAL + 1)]
    return [*first, second[0], evaluation, *second[1:]]


TRUTH = reference(
    [*(step_record(step) for step in range(1, TOTAL + 1)), {"step": 3, "eval_loss": 0.5, "eval_tokens": 9}]
)


def complaints(records: Records) -> list[Problem]:
    found = samples(records, seed=SEED, batch=BATCH, rows=ROWS, total=TOTAL)
    return [*curve(records, TRUTH), *found]


def test_a_run_that_was_broken_and_replayed_steps_alike_is_found_good(records: Records) -> None:
    assert complaints(records) == []


@pytest.mark.parametrize("field", ["loss", "grad_norm", "lr"])
def test_one_bit_of_a_step_is_found_out(records: Records, field: str) -> None:
    records[-1][field] = math.nextafter(records[-1][field], 2.0)
    (problem,) = complaints(records)
    assert f"step {TOTAL}: {field}" in problem.text
    assert problem.attempt == 2


def test_a_replayed_step_with_another_loss_is_found_out_even_where_the_later_one_is_right(records: Records) -> None:
    records[2]["loss"] += 1e-12
    (problem,) = complaints(records)
    assert problem.text.startswith("step 3: loss")
    assert problem.attempt == 1


def test_a_missing_step_is_found_out(records: Records) -> None:
    del records[-1]
    assert any("steps [6] were never recorded" in problem.text for problem in complaints(records))


def test_other_samples_than_a_steps_own_are_found_out(records: Records) -> None:
    records[-1]["samples"] = records[-2]["samples"]
    assert any("step 6 fed other samples" in problem.text for problem in complaints(records))


def test_a_step_too_many_and_a_jump_within_an_attempt_are_found_out(records: Records) -> None:
    doctored = [*records, {**step_record(TOTAL + 1), "attempt": 2}]
    assert any("7 is not one of" in problem.text for problem in complaints(doctored))
    jumped = [*records[:1], *records[2:]]
    assert any("went from step 1 to step 3" in problem.text for problem in complaints(jumped))


def test_another_held_out_loss_and_a_missing_one_are_found_out(records: Records) -> None:
    place = next(number for number, record in enumerate(records) if "eval_loss" in record)
    changed = [*records[:place], {**records[place], "eval_loss": 0.5000001}, *records[place + 1 :]]
    assert any("evaluation after step 3" in problem.text for problem in complaints(changed))
    assert any("evaluations [3]" in problem.text for problem in complaints(records[:place] + records[place + 1 :]))


@pytest.mark.parametrize(("step", "told", "kind"), [(8, False, "silent load"), (4, False, "mismatch"), (4, True, None)])
def test_a_damaged_checkpoint_that_was_loaded_or_not_told_of_is_found_out(
    tmp_path: Path, step: int, told: bool, kind: str | None
) -> None:
    run = RunDir(tmp_path)
    if told:
        record(run, Event.passed_over, 2, step=8, reason="so it was")
    record(run, Event.training_started, 2, step=step)
    append_record(run.metrics, step_record(1))
    assert [problem.kind for problem in loads(run, {2: 8})] == ([] if kind is None else [kind])


def test_half_a_checkpoint_and_a_missing_last_one_are_found_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    (run.checkpoints / "step-00000004").mkdir(parents=True)
    (run.checkpoints / ".step-00000008.tmp").mkdir()
    found = [problem.text for problem in checkpoints(run, total=8)]
    assert "the newest checkpoint is at step None instead of 8" in found
    assert [text for text in found if "was left behind" in text] == [
        "checkpoints/.step-00000008.tmp was left behind",
        "checkpoints/step-00000004 was left behind",
    ]


@pytest.mark.parametrize("recovered", [True, False])
def test_a_newer_checkpoint_than_the_damaged_one_must_have_been_recovered(tmp_path: Path, recovered: bool) -> None:
    run = RunDir(tmp_path)
    if recovered:
        record(run, Event.recovered, 2, step=12)
    record(run, Event.training_started, 2, step=12)
    assert [problem.kind for problem in loads(run, {2: 8})] == ([] if recovered else ["silent load"])
