"""A run that has been through its ordeal is held against the undisturbed one, and each fault against what was expected.

Every problem is laid at the door of the fault whose attempt came before it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launcher.publish import read_records
from launcher.rundir import RunDir
from launcher.runs.events import Event
from launcher.runs.outcome import Ending, Outcome
from tests.faults import processes, verify
from tests.faults.deck import TOTAL_STEPS, Ordeal
from tests.faults.faults import SAVE_EVERY
from tests.faults.outside import hostile_code_ran
from tests.faults.trial import Strike, Trial
from tests.faults.verify import Problem, Reference

LEAVE_S = 10.0
"""How long a process may take to end once its job has left the queue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What came of one fault."""

    name: str
    """Of the fault."""
    where: str
    """Step, rank, and what was done."""
    problems: tuple[Problem, ...]
    """Empty where the run survived it."""
    lost: int | None
    """Steps done again; None where there was no next start."""
    seconds: float | None
    """To the next step."""
    by_hand: bool
    """Whether the run had to be resumed."""


def judge(trial: Trial, ordeal: Ordeal, truth: Reference, failed: str | None) -> list[Verdict]:
    """One verdict a fault that could fall; `failed` says why the run never got to its end."""
    strikes = [strike for strike in trial.strikes if not strike.missed]
    found = [[Problem(text=text) for text in (*strike.wrong, *strike.scene.wrong)] for strike in strikes]
    if failed is not None and found:
        found[-1].append(Problem(text=failed))
    if hasattr(trial, "run"):
        for strike, problems in zip(strikes, found, strict=True):
            if not _outdone(strike, strikes):
                problems += _against_expected(trial.run, strike)
        for problem in _of_the_run(trial, truth, complete=failed is None):
            _culprit(strikes, found, problem).append(problem)
    return [_verdict(trial, strike, problems) for strike, problems in zip(strikes, found, strict=True)]


def undone(trial: Trial) -> list[Verdict]:
    """One verdict a fault that Slurm would not do, however often it was asked."""
    return [
        _verdict(trial, strike, [Problem(text="; ".join(strike.scene.notes) or "it never struck")])
        for strike in trial.strikes
        if strike.missed
    ]


def unstruck(trial: Trial, truth: Reference) -> list[Problem]:
    """What is wrong with a run that nothing befell."""
    return list(_of_the_run(trial, truth, complete=True))


def _culprit(strikes: Sequence[Strike], found: list[list[Problem]], problem: Problem) -> list[Problem]:
    before = [
        problems
        for strike, problems in zip(strikes, found, strict=True)
        if problem.attempt is None or strike.attempt is None or strike.attempt <= problem.attempt
    ]
    return before[-1] if before else found[0]


def _of_the_run(trial: Trial, truth: Reference, *, complete: bool) -> Iterator[Problem]:
    run = trial.run
    records = read_records(run.metrics)
    whole = list(verify.curve(records, truth))
    # Of a run that never got to its end, what it did must be right; what it did not is told already.
    yield from whole if complete else (problem for problem in whole if problem.attempt is not None)
    damaged = {
        strike.attempt + 1: strike.scene.damaged_step
        for strike in trial.strikes
        if strike.attempt is not None and strike.scene.damaged_step is not None
    }
    yield from verify.loads(run, damaged)
    if any(hostile_code_ran(strike.scene) for strike in trial.strikes):
        yield Problem(text="code in a checkpoint was run", kind="silent load")
    if complete:
        yield from verify.planned_samples(run)
        yield from verify.checkpoints(run, total=TOTAL_STEPS, damaged=list(damaged.values()))
    yield from _left_running(trial)
    yield from _unexplained(trial)


def _left_running(trial: Trial) -> Iterator[Problem]:
    deadline = time.monotonic() + LEAVE_S
    while (left := processes.mentioning(str(trial.folder))) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        yield Problem(text=f"process {pid} is left: {processes.command(pid)[:120]}", kind="leftover")


REFUSES_S = 60.0
"""How long a restarted slurmctld may refuse a job its step."""


def _unexplained(trial: Trial) -> Iterator[Problem]:
    """A fault that ends an attempt ends one, and nothing else does."""
    numbers = trial.run.attempt_numbers()
    explained = {strike.attempt for strike in trial.strikes if strike.blow.fault.expected.ends is not False}
    for strike in trial.strikes:
        # A forged checkpoint ends the attempt that would load it.
        starts = strike.blow.fault.expected.starts + bool(strike.scene.by_user)
        explained |= {(strike.attempt or 0) + more for more in range(1, starts)}
    for number in numbers[:-1]:
        outcome = Outcome.read(trial.run.attempt(number))
        if number not in explained and not _refused_a_step(trial, outcome):
            reason = "without an outcome" if outcome is None else outcome.reason
            yield Problem(text=f"attempt {number} ended without a fault: {reason}", attempt=number)


def _refused_a_step(trial: Trial, outcome: Outcome | None) -> bool:
    """Whether a slurmctld that another run's fault had restarted refused the ranks (see `Expected.starts`)."""
    return (
        outcome is not None
        and "Unable to create step" in outcome.reason
        and any(0 < outcome.ended - back < REFUSES_S for back in trial.cluster.restarts)
    )


def _outdone(strike: Strike, strikes: Sequence[Strike]) -> bool:
    """Whether a later fault struck the same attempt: it is that one that ended it."""
    later = strikes[list(strikes).index(strike) + 1 :]
    return strike.attempt is not None and any(other.attempt == strike.attempt for other in later)


def _against_expected(run: RunDir, strike: Strike) -> Iterator[Problem]:
    attempt, expected = strike.attempt, strike.blow.fault.expected
    if attempt is None:
        return
    outcome = Outcome.read(run.attempt(attempt))
    last = attempt == max(run.attempt_numbers())
    if outcome is None:
        yield Problem(text=f"attempt {attempt} has no outcome")
        return
    if outcome.state is Ending.completed:
        if expected.ends and not last:
            yield Problem(text=f"attempt {attempt} was struck, yet completed")
        return
    if expected.ends is False:
        return
    if expected.classes and outcome.failure not in expected.classes:
        names = ", ".join(sorted(failure.value for failure in expected.classes if failure is not None))
        called = None if outcome.failure is None else outcome.failure.value
        yield Problem(text=f"attempt {attempt} was called {called} instead of {names}: {outcome.reason}")
    elif expected.names_node and outcome.node != strike.scene.blamed:
        yield Problem(text=f"attempt {attempt} blames {outcome.node} instead of {strike.scene.blamed}")
    lost = steps_lost(run, attempt)
    # A fault before this one, such as a full disk, may have cost checkpoints of the same attempt.
    most = expected.most_lost + SAVE_EVERY * len(_failed_saves(run, attempt))
    if lost is not None and lost > most:
        yield Problem(text=f"attempt {attempt} lost {lost} steps, more than {most}")


def _failed_saves(run: RunDir, attempt: int) -> list[dict[str, object]]:
    failed = Event.save_failed.value
    return [event for event in read_records(run.events) if (event["event"], event["attempt"]) == (failed, attempt)]


def _starts(run: RunDir) -> list[dict[str, object]]:
    return [event for event in read_records(run.events) if event["event"] == Event.training_started.value]


def steps_lost(run: RunDir, attempt: int) -> int | None:
    """Steps that an attempt had done and the next one did again; None where it was the last that trained."""
    following = [int(str(event["step"])) for event in _starts(run) if int(str(event["attempt"])) > attempt]
    if not following:
        return None
    done = [record["step"] for record in read_records(run.metrics) if "loss" in record and record["attempt"] == attempt]
    return max(0, done[-1] - following[0]) if done else 0


def _seconds_to_next_step(run: RunDir, strike: Strike) -> float | None:
    following = [event for event in _starts(run) if int(str(event["attempt"])) > (strike.attempt or 0)]
    if not following or not strike.attempt:
        return None
    number = following[0]["attempt"]
    steps = [record for record in read_records(run.metrics) if "step_time_s" in record and record["attempt"] == number]
    first = float(steps[0]["step_time_s"]) if steps else 0.0
    return float(str(following[0]["time"])) + first - strike.time


def _verdict(trial: Trial, strike: Strike, problems: Sequence[Problem]) -> Verdict:
    blow = strike.blow
    ended = hasattr(trial, "run") and blow.fault.expected.ends is not False and not _outdone(strike, trial.strikes)
    where = f"step {blow.step}, rank {blow.rank}" + "".join(f"; {note}" for note in strike.scene.notes)
    return Verdict(
        name=blow.fault.name,
        where=where,
        problems=tuple(problems),
        lost=steps_lost(trial.run, strike.attempt) if ended and strike.attempt else None,
        seconds=_seconds_to_next_step(trial.run, strike) if ended else None,
        by_hand=strike.by_hand,
    )
