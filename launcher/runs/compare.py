"""What two runs have in common, and where they differ: what they were told, what they ran with, and what came of it.

Reads what is frozen in their directories, whichever version wrote it.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import NotFoundError, Problem, UserError
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.status import status
from launcher.track.curves import read_curves

ABSENT = "(absent)"
_DATA = ("data", "tokenizer", "model")
_OF_THE_MOMENT = ("step_time_s", "tokens_per_s", "mfu", "memory_gb", "epoch", "lr", "grad_norm")
"""Metrics that say how a step went, not how good the model is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One thing that is not the same."""

    name: str
    one: Any
    other: Any


def compare(one: RunDir, other: RunDir) -> dict[str, list[Difference]]:
    """By section (config, data, code, environment, result); an empty list where all is the same."""
    plans = [_document(run.plan) for run in (one, other)]
    environments = [_document(run.environment) for run in (one, other)]
    marks = [plan.get("fingerprint", {}) for plan in plans]
    return {
        "config": list(_different(*(_flat(plan.get("config", {})) for plan in plans))),
        "data": list(_different(*({name: mark.get(name) for name in _DATA} for mark in marks))),
        "code": list(_code(one.code, other.code)),
        "environment": list(_different(*(_environment(document) for document in environments))),
        "result": list(_different(*(_result(run) for run in (one, other)))),
    }


def changed_since(run: RunDir, plan: RunPlan) -> list[Difference]:
    """Where `plan` is another one than is frozen of `run`, in config, model, tokenizer or data; their names apart."""
    frozen = json.loads(run.plan.read_text(encoding="utf-8").replace(run.root.name, plan.run_id))
    now = plan.to_json()
    marks = [{name: each["fingerprint"].get(name) for name in _DATA} for each in (frozen, now)]
    return [*_different(_flat(frozen["config"]), _flat(now["config"])), *_different(*marks)]


def _document(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFoundError(Problem(where=str(path), message="it is not there: is that a run's directory?")) from error
    except ValueError as error:
        raise UserError(Problem(where=str(path), message=f"it is damaged ({error})")) from error
    return document


def _flat(value: Any, before: str = "") -> dict[str, Any]:
    """Keys with dots, and what they hold; lists as a whole."""
    if not isinstance(value, Mapping):
        return {before: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{before}.{key}" if before else str(key))
    return found


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    for name in [*one, *(name for name in other if name not in one)]:
        pair = one.get(name, ABSENT), other.get(name, ABSENT)
        if pair[0] != pair[1]:
            yield Difference(name=name, one=pair[0], other=pair[1])


def _code(one: Path, other: Path) -> Iterator[Difference]:
    """Files of the snapshots that are not the same."""
    names = [{str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()} for root in (one, other)]
    for name in sorted(names[0] | names[1]):
        if name.endswith(".pyc"):
            continue
        here, there = (name in each for each in names)
        if not (here and there):
            yield Difference(name=name, one="there" if here else ABSENT, other="there" if there else ABSENT)
        elif not filecmp.cmp(one / name, other / name, shallow=False):
            yield Difference(name=name, one="differs", other="differs")


def _environment(document: Mapping[str, Any]) -> dict[str, Any]:
    git = document.get("git") or {}
    return {
        "python": document.get("python"),
        "launcher": document.get("launcher"),
        "commit": git.get("commit"),
        "uncommitted changes": git.get("diff") or None,
        **document.get("packages", {}),
    }


def _result(run: RunDir) -> dict[str, Any]:
    """Where the run stands, and what each measure came to."""
    stands = status(run)
    curves = read_curves(run)
    last = {name: points[-1][1] for name, points in curves.lines.items() if points and name not in _OF_THE_MOMENT}
    return {
        "state": stands.state.value,
        "attempts": stands.attempts,
        "step": curves.steps,
        "tokens": curves.tokens,
        **last,
    }
