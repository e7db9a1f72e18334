"""A run goes on: its frozen config with new overrides becomes a new plan in the same directory.

Refuses what would make another run of it, with the difference.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from launcher.checkpoint.manifest import MANIFEST, SUPERSEDED, committed_steps, step_folder
from launcher.checkpoint.tidy import discard_unfinished
from launcher.cluster import executor
from launcher.config.cluster import ClusterKind
from launcher.config.compose import (
    REFUSALS,
    Composed,
    decode_config,
    group_choice,
    is_group,
    literal,
    parse,
    refused,
)
from launcher.config.schema import Config
from launcher.config.search import SearchPath, search_path
from launcher.errors import NotFoundError, Problem, UserError
from launcher.plain import plain
from launcher.plan.build import plan_config
from launcher.publish import publish_text, read_records, sync_dir
from launcher.rundir import RunDir
from launcher.runplan import Measured, RunPlan
from launcher.runs.drift import noted, refuse_changes
from launcher.runs.events import Event, record
from launcher.runs.freeze import snapshot, write_plan
from launcher.runs.job import claimed_submission, newest_submission, read_job
from launcher.runs.launch import Launched, stages_left, submit, submit_left
from launcher.runs.outcome import read_outcomes
from launcher.runs.records import is_step, tail
from launcher.runs.retry import bad_nodes
from launcher.runs.stages import under_way, withdraw
from launcher.runs.status import ACTIVE, State, Status, status


def resume(
    run: RunDir,
    overrides: Sequence[str],
    *,
    step: int | None,
    work_dir: Path,
    config_dir: Path | None,
    accept_changes: bool = False,
) -> Launched:
    """Queue the run again, to go on from its newest checkpoint, or from the one after `step`.

    Where its training is done, and what was to follow it is not, that alone is queued.
    """
    number = newest_submission(run)
    now, job = status(run), read_job(run)
    _refuse_active(run, number, now)
    old = RunPlan.load(run.plan)
    new = replan(old, overrides, search_path(config_dir, work_dir), work_dir)
    accepted = refuse_changes(old, new, accept=accept_changes)
    new = replace(new, accepted=[*old.accepted, *accepted])
    _require_step(run, step)
    typed = [*run.overrides.read_text(encoding="utf-8").splitlines(), *overrides]
    left = stages_left(old, new, now)
    if left and job is not None and now.state is State.COMPLETED and step is None and _trains_as_long(old, new):
        with _restored_on_failure(run):
            write_plan(run, new, typed)
            snapshot(run.code)
            return submit_left(run, new, job, left)
    _refuse_nothing_left(run, new, step)
    if job is not None:
        # They would find soon enough that what they follow has ended; this way they cannot meet what comes now.
        withdraw(run, job, now.stages, executor(job.kind), "withdrawn: the run was resumed")
    with claimed_submission(run, number + 1) as folder, _restored_on_failure(run):
        before = json.loads(run.environment.read_text(encoding="utf-8"))
        write_plan(run, new, typed)
        # The plan is this version's, so the code that reads it must be too.
        snapshot(run.code)
        set_aside = _set_aside_after(run, step)
        try:
            launched = submit(run, new, folder)
        except BaseException:
            for superseded in set_aside:
                (superseded / SUPERSEDED).rename(superseded / MANIFEST)
            raise
        _tell(run, accepted, noted(old, new, before, json.loads(run.environment.read_text(encoding="utf-8"))))
    return launched


CLAIM_S = 600.0
"""Age at which a submission that never came to a job counts as given up."""


def _trains_as_long(old: RunPlan, new: RunPlan) -> bool:
    """Whether nothing was typed that gives a training which has completed more to do."""
    lengths = [(train.max_steps, train.epochs, train.stop_at) for train in (old.config.train, new.config.train)]
    return lengths[0] == lengths[1]


def _refuse_active(run: RunDir, number: int, now: Status) -> None:
    """UserError while a job carries the run or follows it, or somebody is submitting it."""
    job, state = read_job(run), now.state
    claimed = run.submissions / f"{number:04d}"
    fresh = number > (0 if job is None else job.submission) and time.time() - claimed.stat().st_mtime < CLAIM_S
    following = under_way(now.stages) if state is State.COMPLETED else []
    if following:
        message, name = f"its {' and '.join(following)} will follow by themselves, or do already", run.root.name
        raise UserError(Problem(where=name, message=message, remedy=f"`launcher cancel {name}` withdraws them"))
    if state in ACTIVE or fresh:
        what = "is being submitted by somebody else" if fresh else f"is {state.value}, so it needs no resume"
        raise UserError(
            Problem(
                where=run.root.name,
                message=f"the run {what}",
                remedy=f"`launcher cancel {run.root.name}` first, or let it go on",
            )
        )


def _tell(run: RunDir, accepted: Sequence[str], differing: Sequence[str]) -> None:
    if accepted:
        record(run, Event.drift_accepted, 0, names=list(accepted))
    if differing:
        record(run, Event.drift_noted, 0, names=list(differing))


@contextmanager
def _restored_on_failure(run: RunDir) -> Iterator[None]:
    """What was frozen before stands again if the block raises."""
    files = [
        path
        for path in (run.plan, run.config, run.overrides, run.environment, run.chat_template, run.reward, run.prologue)
        if path.exists()
    ]
    kept = {path: path.read_text(encoding="utf-8") for path in files}
    former = run.root / ".code.before"
    if former.exists():
        # Whoever was here before was killed half way.
        _remove_code(run.code)
        former.rename(run.code)
    run.code.rename(former)
    try:
        yield
    except BaseException:
        _remove_code(run.code)
        former.rename(run.code)
        for path, text in kept.items():
            publish_text(path, text)
        raise
    _remove_code(former)


def _remove_code(code: Path) -> None:
    """Remove a snapshot; that of a sweep's member is a link to what others need too."""
    if code.is_symlink():
        code.unlink()
    else:
        shutil.rmtree(code, ignore_errors=True)


def replan(old: RunPlan, overrides: Sequence[str], search: SearchPath, work_dir: Path) -> RunPlan:
    """The plan of `old` with more overrides. The recipe is not read again: only what is typed now changes."""
    run = RunDir(Path(old.run_dir))
    composed = apply(old, overrides, search)
    config = composed.config
    if config is not None:
        config = replace(config, runs_root=str(Path(old.run_dir).parent))
        config = _avoiding(
            config, run, typed=any(text.lstrip("+").startswith("cluster.exclude=") for text in overrides)
        )
    try:
        return plan_config(
            config,
            composed.problems,
            recipe=old.recipe,
            run_id=old.run_id,
            work_dir=work_dir,
            measured=measured(run),
        )
    except UserError as error:
        raise UserError(*(_with_global_batch_kept(problem) for problem in error.problems)) from error


def _avoiding(config: Config, run: RunDir, *, typed: bool) -> Config:
    """The config without the nodes that failed this run, unless the user says which nodes to avoid."""
    bad = [node for node in bad_nodes(read_outcomes(run)) if node not in (config.cluster.exclude or "").split(",")]
    if typed or not bad or config.cluster.kind is not ClusterKind.slurm:
        return config
    exclude = ",".join(filter(None, [config.cluster.exclude, *bad]))
    return replace(config, cluster=replace(config.cluster, exclude=exclude))


def measured(run: RunDir) -> Measured | None:
    """The slowest step and checkpoint of the run's recent past; None before its first checkpoint."""
    saves = [event["seconds"] for event in read_records(run.events) if event["event"] == Event.checkpoint.value]
    steps = [record["step_time_s"] for record in tail(run.metrics) if is_step(record)]
    return Measured(step_s=max(steps), save_s=max(saves[-RECENT_SAVES:])) if saves and steps else None


RECENT_SAVES = 20


def _with_global_batch_kept(problem: Problem) -> Problem:
    """What a new run would mend with another global batch, a resume cannot."""
    if problem.where != "train.global_batch_size":
        return problem
    remedy = "a resume keeps it: take a number of ranks that divides it, and train.micro_batch_size=auto"
    return replace(problem, valid="", remedy=remedy)


def apply(old: RunPlan, overrides: Sequence[str], search: SearchPath) -> Composed:
    """The frozen config with overrides on top, group choices included."""
    values: Any = literal(plain(old.config))
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
                values[group] = literal(group_choice(old.recipe, override, search))
            else:
                choices = ", ".join(search.choices(group))
                problems.append(Problem(where=group, message=f"{override.value()!r} is not a choice", valid=choices))
        else:
            _set(values, override.key_or_group.split("."), override.value())
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    except REFUSALS as error:
        return Composed(config=None, problems=[*problems, refused(" ".join(overrides), error)])
    composed = decode_config(resolved)
    return Composed(config=composed.config, problems=[*problems, *composed.problems])


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        nested = values.get(key)
        if not isinstance(nested, dict):
            nested = values[key] = {}
        values = nested
    values[keys[-1]] = value


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
        (folder / MANIFEST).rename(folder / SUPERSEDED)
        sync_dir(folder)
    if step is not None:
        discard_unfinished(run.checkpoints, after_step=step)
    return folders
