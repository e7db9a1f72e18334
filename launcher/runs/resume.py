"""A run goes on: its frozen config with new overrides becomes a new plan in the same directory.

Refuses what would make another run of it, with the difference.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from launcher.checkpoint.manifest import MANIFEST, committed_steps, step_folder
from launcher.checkpoint.tidy import discard_unfinished
from launcher.config.compose import Composed, decode_config, group_choice, is_group, parse
from launcher.config.search import SearchPath, search_path
from launcher.errors import NotFoundError, Problem, UserError
from launcher.plan.build import plan_config
from launcher.publish import publish_text, sync_dir
from launcher.rundir import RunDir
from launcher.runplan import RunPlan, plain
from launcher.runs.freeze import snapshot, write_plan
from launcher.runs.launch import Launched, submit
from launcher.runs.status import ACTIVE, status


def resume(
    run: RunDir, overrides: Sequence[str], *, step: int | None, work_dir: Path, config_dir: Path | None
) -> Launched:
    """Queue the run again, to go on from its newest checkpoint, or from the one after `step`."""
    state = status(run).state
    if state in ACTIVE:
        raise UserError(
            Problem(
                where=run.root.name,
                message=f"the run is {state.value}, so it needs no resume",
                remedy=f"`launcher cancel {run.root.name}` first, or let it go on",
            )
        )
    old = RunPlan.load(run.plan)
    new = replan(old, overrides, search_path(config_dir, work_dir), work_dir)
    refuse_changes(old, new)
    _require_step(run, step)
    _refuse_nothing_left(run, new, step)
    with _restored_on_failure(run):
        write_plan(run, new, [*run.overrides.read_text(encoding="utf-8").splitlines(), *overrides])
        # The plan is this version's, so the code that reads it must be too.
        snapshot(run.code)
        set_aside = _set_aside_after(run, step)
        try:
            return submit(run, new)
        except BaseException:
            for folder in set_aside:
                (folder / f"{MANIFEST}.superseded").rename(folder / MANIFEST)
            raise
    raise AssertionError("the block returns or raises")


@contextmanager
def _restored_on_failure(run: RunDir) -> Iterator[None]:
    """What was frozen before stands again if the block raises."""
    files = [
        path for path in (run.plan, run.config, run.overrides, run.environment, run.chat_template) if path.exists()
    ]
    kept = {path: path.read_text(encoding="utf-8") for path in files}
    former = run.root / ".code.before"
    run.code.rename(former)
    try:
        yield
    except BaseException:
        shutil.rmtree(run.code, ignore_errors=True)
        former.rename(run.code)
        for path, text in kept.items():
            publish_text(path, text)
        raise
    shutil.rmtree(former)


def replan(old: RunPlan, overrides: Sequence[str], search: SearchPath, work_dir: Path) -> RunPlan:
    """The plan of `old` with more overrides. The recipe is not read again: only what is typed now changes."""
    composed = apply(old, overrides, search)
    config = composed.config
    if config is not None:
        config = replace(config, runs_root=str(Path(old.run_dir).parent))
    try:
        return plan_config(config, composed.problems, recipe=old.recipe, run_id=old.run_id, work_dir=work_dir)
    except UserError as error:
        raise UserError(*(_with_global_batch_kept(problem) for problem in error.problems)) from error


def _with_global_batch_kept(problem: Problem) -> Problem:
    """What a new run would mend with another global batch, a resume cannot."""
    if problem.where != "train.global_batch_size":
        return problem
    remedy = "a resume keeps it: take a number of ranks that divides it, and train.micro_batch_size=auto"
    return replace(problem, valid="", remedy=remedy)


def apply(old: RunPlan, overrides: Sequence[str], search: SearchPath) -> Composed:
    """The frozen config with overrides on top, group choices included."""
    values: Any = plain(old.config)
    problems: list[Problem] = []
    for text in overrides:
        override = parse(text)
        if isinstance(override, Problem):
            problems.append(override)
        elif override.key_or_group == "runs_root":
            problems.append(Problem(where="runs_root", message="a run stays where it is", remedy="leave it out"))
        elif is_group(override, search):
            group = override.key_or_group
            if override.value() in search.choices(group):
                values[group] = group_choice(old.recipe, override, search)
            else:
                choices = ", ".join(search.choices(group))
                problems.append(Problem(where=group, message=f"{override.value()!r} is not a choice", valid=choices))
        else:
            _set(values, override.key_or_group.split("."), override.value())
    resolved = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    composed = decode_config(resolved)
    return Composed(config=composed.config, problems=[*problems, *composed.problems])


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        nested = values.get(key)
        if not isinstance(nested, dict):
            nested = values[key] = {}
        values = nested
    values[keys[-1]] = value


def refuse_changes(old: RunPlan, new: RunPlan) -> None:
    """UserError with every difference that would make the resumed run another run."""
    changes = [
        Problem(
            where=name,
            message=f"{before} → {after}: a resume cannot change this",
            remedy=_way_round(old, new) if name == "zero.stage" else "submit a new run, or leave it as it was",
        )
        for name, before, after in _differences(old, new)
        if before != after
    ]
    if changes:
        raise UserError(*changes)


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
    yield "model.path", old.config.model.path, new.config.model.path
    for key in ("seq_len", "overlong", "format"):
        yield f"data.{key}", plain(getattr(old.config.data, key)), plain(getattr(new.config.data, key))
    for key in ("seed", "global_batch_size"):
        yield f"train.{key}", getattr(old.config.train, key), getattr(new.config.train, key)
    yield "precision.dtype", plain(old.config.precision.dtype), plain(new.config.precision.dtype)
    yield "zero.stage", old.config.zero.stage, new.config.zero.stage


def _refuse_nothing_left(run: RunDir, new: RunPlan, step: int | None) -> None:
    steps = committed_steps(run.checkpoints)
    last = step if step is not None else (steps[-1] if steps else 0)
    end = new.config.train.stop_at or new.config.train.max_steps
    if end is not None and last >= end:
        name = "train.stop_at" if new.config.train.stop_at else "train.max_steps"
        raise UserError(
            Problem(
                where=run.root.name,
                message=f"the run has a checkpoint at step {last}, and {name} is {end}: nothing is left to do",
                remedy=f"`launcher resume {run.root.name} {name}=N` with a larger N"
                + (", or train.stop_at=null" if new.config.train.stop_at else ""),
            )
        )


def _require_step(run: RunDir, step: int | None) -> None:
    steps = committed_steps(run.checkpoints)
    if step is not None and step not in steps:
        raise NotFoundError(
            Problem(
                where="--step",
                message=f"{run.root.name} has no checkpoint at step {step}",
                valid=", ".join(map(str, steps)) or "(there is none yet)",
            )
        )


def _set_aside_after(run: RunDir, step: int | None) -> list[Path]:
    """Later checkpoints stop being candidates, or a requeue would take them up; their shards stay on disk."""
    later = [number for number in committed_steps(run.checkpoints) if step is not None and number > step]
    folders = [step_folder(run.checkpoints, number) for number in later]
    for folder in folders:
        (folder / MANIFEST).rename(folder / f"{MANIFEST}.superseded")
        sync_dir(folder)
    if step is not None:
        discard_unfinished(run.checkpoints, after_step=step)
    return folders
