"""What has changed between a run's plan and what it is to go on with: what matters, what does not, and who said yes.

Pure, but for the reading of two environment records and of the file that judges answers.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.errors import Problem, UserError
from launcher.objectives.registry import objective_of
from launcher.plain import plain
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

NOTED_PACKAGES = (
    "torch",
    "deepspeed",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "tokenizers",
    "safetensors",
    "numpy",
)
IMPOSSIBLE = ("zero.stage", "precision.dtype", "adapter", "model.freeze", "optim.name", "optim.ema_decay")
"""What no checkpoint can be carried over to, whoever accepts it."""
ACCEPT = "--accept-changes"


def refuse_changes(old: RunPlan, new: RunPlan, *, accept: bool) -> list[str]:
    """Differences that make the resumed run another run: all of them in one UserError, or, accepted, their list."""
    changed = [(name, before, after) for name, before, after in _differences(old, new) if before != after]
    refused = [change for change in changed if change[0] in IMPOSSIBLE or not accept]
    if refused:
        raise UserError(*(_refusal(old, new, *change) for change in refused))
    return [f"{name}: {before} → {after}" for name, before, after in changed]


def _refusal(old: RunPlan, new: RunPlan, name: str, before: Any, after: Any) -> Problem:
    remedy = f"submit a new run, or leave it as it was; {ACCEPT} goes on all the same, and the run's events say so"
    if name == "zero.stage":
        remedy = _way_round(old, new)
    elif name in IMPOSSIBLE:
        remedy = "submit a new run, or leave it as it was"
    return Problem(where=name, message=f"{before} → {after}: a resume cannot change this", remedy=remedy)


def _way_round(old: RunPlan, new: RunPlan) -> str:
    return (
        "DeepSpeed cannot carry an optimiser's state over; with the weights alone, go on in a new run: "
        f"`launcher export {old.run_id}`, then `launcher submit {old.recipe} "
        f"model.path={shlex.quote(str(RunDir(Path(old.run_dir)).export))} zero.stage={new.config.zero.stage}`"
    )


def _differences(old: RunPlan, new: RunPlan) -> Iterator[tuple[str, Any, Any]]:
    for name in ("model", "tokenizer", "data"):
        yield f"fingerprint of the {name}", getattr(old.fingerprint, name), getattr(new.fingerprint, name)
    yield "objective.name", old.config.objective.name, new.config.objective.name
    yield "objective.options", old.config.objective.options, new.config.objective.options
    rollouts = objective_of(new.config).needs.rollouts
    frozen = RunDir(Path(old.run_dir)).reward
    if rollouts is not None and not rollouts.by_model and frozen.is_file():
        now = Path(rollouts.reward).read_text(encoding="utf-8")
        yield "text of objective.options.reward", _mark(frozen.read_text(encoding="utf-8")), _mark(now)
    yield "model.path", old.config.model.path, new.config.model.path
    for key in ("seq_len", "overlong", "format"):
        yield f"data.{key}", plain(getattr(old.config.data, key)), plain(getattr(new.config.data, key))
    for key in ("seed", "global_batch_size"):
        yield f"train.{key}", getattr(old.config.train, key), getattr(new.config.train, key)
    yield "precision.dtype", plain(old.config.precision.dtype), plain(new.config.precision.dtype)
    yield "adapter", plain(old.config.adapter), plain(new.config.adapter)
    yield "model.freeze", old.config.model.freeze, new.config.model.freeze
    for key in ("name", "ema_decay"):
        yield f"optim.{key}", getattr(old.config.optim, key), getattr(new.config.optim, key)
    yield "zero.stage", old.config.zero.stage, new.config.zero.stage


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def noted(old: RunPlan, new: RunPlan, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Differences that are told and let through: the launcher's code, Python, packages (`env.json` of both times)."""
    pairs: list[tuple[str, Any, Any]] = [("launcher code", old.fingerprint.code, new.fingerprint.code)]
    pairs.append(("python", before.get("python"), after.get("python")))
    packages = before.get("packages", {}), after.get("packages", {})
    pairs += [(name, packages[0].get(name), packages[1].get(name)) for name in NOTED_PACKAGES]
    return [f"{name}: {was} → {now}" for name, was, now in pairs if was != now]
