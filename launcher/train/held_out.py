"""What held-out losses are compared with: those before the first step, and those of the training steps before.

Owns reading both back, so that a run that goes on compares with what the run that never stopped does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launcher.measures import GAP, LOSS_CHANGE, prefixes
from launcher.rundir import RunDir
from launcher.runs.records import backwards, is_step
from launcher.train.agree import from_rank0
from launcher.train.metrics import GAP_STEPS

_HEAD_BYTES = 1 << 24
"""The first evaluation comes before the first step; what is told apart comes before it, and may be long."""


def losses_before_all(run: RunDir, start: int) -> list[float]:
    """The losses of the last `GAP_STEPS` steps up to `start`, oldest first; collective. Fewer where some are lost."""
    wanted = set(range(max(1, start - GAP_STEPS + 1), start + 1))
    if not wanted:
        return []

    def read() -> list[float]:
        found: dict[int, float] = {}
        # Steps that were done, lost and done again are there more than once: the last time counts.
        for record in backwards(run.metrics):
            if is_step(record) and record["step"] in wanted and record["step"] not in found:
                found[record["step"]] = math.nan if record["loss"] is None else record["loss"]
                if len(found) == len(wanted):
                    break
        return [found[step] for step in sorted(found)]

    return from_rank0(read)


def untrained_all(run: RunDir, sets: Iterable[str]) -> dict[str, float]:
    """Every held-out loss before the first step, by the prefix of its name; collective. Empty before there is any."""
    return from_rank0(lambda: losses_of(_first_evaluation(run), sets))


def losses_of(measured: Mapping[str, Any], sets: Iterable[str]) -> dict[str, float]:
    """An evaluation's losses on the sets, and on all of them together, by the prefix of their names; those that are no
    numbers are left out.
    """
    found = {prefix: measured.get(f"{prefix}_loss") for prefix in prefixes(sets)}
    return {prefix: loss for prefix, loss in found.items() if isinstance(loss, float) and math.isfinite(loss)}


def changes(losses: Mapping[str, float], untrained: Mapping[str, float]) -> dict[str, float]:
    """How far each held-out loss has moved from that of the model before its first step."""
    return {
        f"{prefix}_{LOSS_CHANGE}": loss - untrained[prefix] for prefix, loss in losses.items() if prefix in untrained
    }


def gaps(losses: Mapping[str, float], recent: Sequence[float], window: int) -> dict[str, float]:
    """Each held-out loss less the mean of the last `window` training losses; nothing where fewer are known."""
    if not 0 < window <= len(recent):
        return {}
    mean = math.fsum(recent[len(recent) - window :]) / window
    return {f"{prefix}_{GAP}": loss - mean for prefix, loss in losses.items()}


def _first_evaluation(run: RunDir) -> Mapping[str, Any]:
    try:
        with run.metrics.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        return {}
    for line in head.splitlines():
        if b'"eval_loss"' in line:
            try:
                record: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            return record if record.get("step") == 0 else {}
    return {}
