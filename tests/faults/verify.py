"""What must hold of a run that was broken and went on: the invariants, from its files and the machine's processes.

Each check yields what is wrong, with the attempt in which it shows, where one is known. Knows no fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.checkpoint.manifest import MANIFEST, committed_steps, fault, read_manifest, step_folder
from launcher.data.feed.order import Order, checksum
from launcher.data.tokens import TokenStore
from launcher.publish import read_records
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event

SAME = ("loss", "grad_norm", "lr", "tokens", "samples")
"""Fields of a step that must not differ by one bit, however often a run was broken."""
SAME_EVALUATION = ("eval_loss", "eval_tokens")
BESIDE = ("latest", "zero_to_fp32.py", "zero_to_torch.py")
"""Files beside the checkpoints: DeepSpeed's own tools want them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """An invariant that does not hold."""

    text: str
    """What is wrong."""
    attempt: int | None = None
    """Where it shows."""
    kind: str = "mismatch"
    """`mismatch`, `silent load` or `leftover`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The run that was never disturbed."""

    steps: Mapping[int, Mapping[str, Any]]
    """Record by step."""
    evaluations: Mapping[int, Mapping[str, Any]]
    """Record by step."""


def reference(records: Sequence[Mapping[str, Any]]) -> Reference:
    """From the undisturbed run's metrics."""
    return Reference(
        steps={record["step"]: record for record in records if "loss" in record},
        evaluations={record["step"]: record for record in records if "eval_loss" in record},
    )


def curve(records: Sequence[Mapping[str, Any]], truth: Reference) -> Iterator[Problem]:
    """Every record, replayed steps included, equals the undisturbed run's; none is missing, none is too many."""
    steps = [record for record in records if "loss" in record]
    yield from _differing(steps, truth.steps, SAME, "step")
    evaluations = [record for record in records if "eval_loss" in record]
    yield from _differing(evaluations, truth.evaluations, SAME_EVALUATION, "evaluation after step")
    for found, expected, what in ((steps, truth.steps, "steps"), (evaluations, truth.evaluations, "evaluations")):
        missing = sorted(set(expected) - {record["step"] for record in found})
        if missing:
            yield Problem(text=f"{what} {missing} were never recorded")
    yield from _twice_in_an_attempt(steps)


def _differing(
    records: Sequence[Mapping[str, Any]], truth: Mapping[int, Mapping[str, Any]], fields: Sequence[str], what: str
) -> Iterator[Problem]:
    for record in records:
        step, attempt = record["step"], record["attempt"]
        if step not in truth:
            yield Problem(text=f"{what} {step} is not one of the undisturbed run's", attempt=attempt)
            continue
        for field in fields:
            mine, its = record[field], truth[step][field]
            if mine != its and not (_is_nan(mine) and _is_nan(its)):
                yield Problem(text=f"{what} {step}: {field} {mine!r} instead of {its!r}", attempt=attempt)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _twice_in_an_attempt(steps: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """An attempt goes from step to step; only another attempt goes back."""
    last: dict[int, int] = {}
    for record in steps:
        step, attempt = record["step"], record["attempt"]
        if step != last.get(attempt, step - 1) + 1:
            yield Problem(text=f"attempt {attempt} went from step {last[attempt]} to step {step}", attempt=attempt)
        last[attempt] = step


def samples(records: Sequence[Mapping[str, Any]], *, seed: int, batch: int, rows: int, total: int) -> Iterator[Problem]:
    """The final timeline (of each step its last attempt) fed every sample of the stream once."""
    final: dict[int, Mapping[str, Any]] = {}
    for record in sorted((record for record in records if "loss" in record), key=lambda record: record["attempt"]):
        final[record["step"]] = record
    if sorted(final) != list(range(1, total + 1)):
        yield Problem(text=f"the timeline is not 1 to {total}: {_ranges(sorted(final))}")
    order = Order(seed=seed, sizes=(rows,))
    for step, record in sorted(final.items()):
        due = checksum(order.samples_of_step(step - 1, batch).tolist())
        if record["samples"] != due:
            text = f"step {step} fed other samples than its own: {record['samples']} instead of {due}"
            yield Problem(text=text, attempt=record["attempt"])


def _ranges(steps: Sequence[int]) -> str:
    return ", ".join(map(str, steps))


def planned_samples(run: RunDir) -> Iterator[Problem]:
    """`samples` with everything it needs from the run's own plan and data."""
    plan = RunPlan.load(run.plan)
    total = plan.config.train.max_steps
    newest = next((step_folder(run.checkpoints, step) for step in committed_steps(run.checkpoints)[::-1]), None)
    manifest = None if newest is None else read_manifest(newest)
    if manifest is None or total is None:
        yield Problem(text="there is no readable checkpoint at the end")
        return
    rows = len(TokenStore(Path(plan.data_cache) / manifest.data))
    batch, seed = plan.batch.global_batch_size, plan.config.train.seed
    yield from samples(read_records(run.metrics), seed=seed, batch=batch, rows=rows, total=total)


def checkpoints(run: RunDir, *, total: int, damaged: Sequence[int] = ()) -> Iterator[Problem]:
    """What is committed is whole (but for those damaged on purpose); there is one at the end; nothing half lies about.

    A step's folder without a manifest is half a checkpoint.
    """
    steps = committed_steps(run.checkpoints)
    if not steps or steps[-1] != total:
        yield Problem(text=f"the newest checkpoint is at step {steps[-1] if steps else None} instead of {total}")
    for step in (step for step in steps if step not in damaged):
        folder = step_folder(run.checkpoints, step)
        manifest = read_manifest(folder)
        shards = [] if manifest is None else manifest.shards
        complaints = [found for shard in shards if (found := fault(folder, shard, content=True)) is not None]
        if manifest is None:
            complaints = ["its manifest cannot be read"]
        yield from (Problem(text=f"checkpoint {step}: {complaint}") for complaint in complaints)
    for path in sorted(run.checkpoints.iterdir()):
        number = path.name.removeprefix("step-")
        whole = number.isdigit() and (int(number) in damaged or (path / MANIFEST).is_file())
        if path.name not in BESIDE and not whole:
            yield Problem(text=f"checkpoints/{path.name} was left behind", kind="leftover")
        if path.is_dir():
            for file in path.rglob("*.tmp"):
                yield Problem(text=f"checkpoints/{file.relative_to(run.checkpoints)} was left behind", kind="leftover")


def loads(run: RunDir, damaged: Mapping[int, int]) -> Iterator[Problem]:
    """`damaged` maps an attempt to the step whose checkpoint was damaged before it: told of, and not gone on from.

    Where the attempt recovered a newer one, nobody has looked at the damaged one.
    """
    events = read_records(run.events)
    for attempt, step in damaged.items():
        mine = [event for event in events if event["attempt"] == attempt]
        started = [event["step"] for event in mine if event["event"] == Event.training_started.value]
        passed = {event["step"] for event in mine if event["event"] == Event.passed_over.value}
        recovered = {event["step"] for event in mine if event["event"] == Event.recovered.value}
        if started and started[0] > step and started[0] in recovered:
            continue
        if started and started[0] >= step:
            text = f"attempt {attempt} went on from step {started[0]}, whose checkpoint was damaged"
            yield Problem(text=text, attempt=attempt, kind="silent load")
        elif step not in passed:
            yield Problem(text=f"attempt {attempt} did not tell that it passed over step {step}", attempt=attempt)
