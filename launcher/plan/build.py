"""compose → validate → plan: from what a person typed to a RunPlan, with every error reported together.

Reads disk at constant cost; writes nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import fingerprint
from launcher.config.cluster import Accelerator, ClusterKind
from launcher.config.compose import Composed, compose
from launcher.config.doubts import doubts
from launcher.config.partial import trains_a_part
from launcher.config.ranges import AUTO
from launcher.config.schema import Config, ShapeConfig
from launcher.config.search import search_path
from launcher.config.validate import READING_KEYS, secrets_in, validate
from launcher.errors import Problem, UserError
from launcher.expected import Expected
from launcher.models.shape import model_shape
from launcher.plan.batch import plan_batch
from launcher.plan.deepspeed import deepspeed_config
from launcher.plan.earlier import earlier
from launcher.plan.fit import settled, tentative
from launcher.plan.frozen import frozen_parameters
from launcher.plan.lead import plan_lead
from launcher.plan.memory import most_that_fit
from launcher.plan.mounts import mount_problems, mounts
from launcher.plan.pace import pace, step_tokens
from launcher.plan.paths import check_paths, eval_specs, locate, train_spec
from launcher.plan.peaks import Peaks, earlier_peaks, memory_of
from launcher.plan.prepared import Prepared, prepared
from launcher.plan.processes import host_memory
from launcher.plan.prompts import with_prompts
from launcher.plan.room import room_at
from launcher.plan.sampler import with_sampler
from launcher.plan.slurm import data_job_parameters, slurm_parameters
from launcher.plan.then import task_problems
from launcher.plan.time import Setting
from launcher.plan.warnings import Looked, warnings
from launcher.plan.whole import expect
from launcher.remember import remembering
from launcher.rundir import RunDir
from launcher.runplan import PLAN_VERSION, Batch, Lead, Measured, Memory, RunPlan, Topology


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a person typed, and where."""

    recipe: str
    """First positional word."""
    overrides: Sequence[str]
    """Hydra overrides."""
    config_dir: Path | None
    """`--config-dir`."""
    work_dir: Path
    """Relative paths start here."""


def plan_request(request: Request) -> RunPlan:
    """The plan of a new run; UserError with everything that is wrong, NotFoundError for an unknown recipe."""
    search = search_path(request.config_dir, request.work_dir)
    composed = compose(request.recipe, request.overrides, search)
    return plan_composed(composed, request, new_run_id(request.recipe))


def plan_composed(composed: Composed, request: Request, run_id: str) -> RunPlan:
    """The plan of the run `run_id`, from what came of composing; UserError with everything that is wrong."""
    return plan_config(
        composed.config, composed.problems, recipe=request.recipe, run_id=run_id, work_dir=request.work_dir
    )


def new_run_id(recipe: str) -> str:
    """RECIPE-DATE-TIME-RANDOM: sorts by time, and two in one second differ."""
    return f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


@remembering()
def plan_config(
    config: Config | None,
    problems: Sequence[Problem],
    *,
    recipe: str,
    run_id: str,
    work_dir: Path,
    measured: Measured | None = None,
) -> RunPlan:
    """The plan of a composed config, or one UserError with `problems` and every further one.

    `measured` is what earlier attempts of the run took.
    """
    found = list(problems)
    if config is None:
        raise UserError(*found)
    chooses = config.zero.auto
    if chooses:
        config = tentative(config)
    found += validate(config)
    if any(problem.where.startswith(READING_KEYS) for problem in found):
        raise _refusal(config, found)
    config = locate(config, work_dir)
    run_dir = RunDir(Path(config.runs_root) / run_id)
    found += [*check_paths(config, run_dir), *mount_problems(config, run_dir), *secrets_in(config)]
    found += task_problems(config, work_dir)
    asking = with_prompts(config)
    if isinstance(asking, Problem):
        found.append(asking)
    else:
        config = asking
    sampling = with_sampler(config)
    if isinstance(sampling, Config):
        config = sampling
    else:
        found += sampling
    topology = Topology(nodes=config.cluster.nodes, ranks_per_node=config.cluster.gpus_per_node)
    layout, peaks = "as set", Peaks() if found else earlier_peaks(config)
    if chooses and not found:
        config, layout = _laid_out(config, topology, peaks)
    sized = _sized(config, topology, peaks, found)
    if found or sized is None:
        raise _refusal(config, found)
    train_data = train_spec(config, run_dir)
    assert config.data.cache_dir is not None
    batch = sized.batch
    memory = memory_of(config, sized.shape, topology, batch.micro_batch_size, sized.frozen, peaks)
    data = prepared(config, train_data)
    lead, expected = _timed(config, sized, memory, topology, data, measured)
    looked = Looked(
        config=config,
        topology=topology,
        memory=memory,
        lead=lead,
        expected=expected,
        data=data,
        room=room_at(run_dir.root),
    )
    slurm = config.cluster.kind is ClusterKind.slurm
    on_cpus = config.cluster.accelerator is Accelerator.cpu
    own_data_job = slurm and config.cluster.data_job.enabled
    return RunPlan(
        version=PLAN_VERSION,
        run_id=run_id,
        run_dir=str(run_dir.root),
        recipe=recipe,
        config=config,
        topology=topology,
        layout=layout,
        batch=batch,
        memory=memory,
        host=host_memory(config, sized.shape, topology.world_size, batch.micro_batch_size) if on_cpus else None,
        train_data=train_data,
        eval_data=eval_specs(config, run_dir),
        data_cache=config.data.cache_dir,
        lead=lead,
        expected=expected,
        deepspeed=sized.deepspeed,
        slurm=slurm_parameters(config.cluster, run_dir, run_id, lead, mounts(config, run_dir)) if slurm else None,
        data_job=data_job_parameters(config.cluster, run_dir, run_id) if own_data_job else None,
        fingerprint=fingerprint.take(config, train_data),
        warnings=warnings(looked),
        accepted=[],
    )


def _refusal(config: Config, found: Sequence[Problem]) -> UserError:
    """Everything that is wrong, and what is likely so."""
    error = UserError(*_distinct(found))
    wrong = {problem.where for problem in found}
    error.warnings = [doubt for doubt in doubts(config) if doubt.where not in wrong]
    return error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sized:
    """What follows from the size of the models."""

    shape: ShapeConfig
    """Of the model that trains."""
    frozen: int
    """Parameters of models beside it."""
    batch: Batch
    """How the global batch is cut."""
    deepspeed: dict[str, Any]
    """DeepSpeed's config."""


def _sized(config: Config, topology: Topology, peaks: Peaks, found: list[Problem]) -> _Sized | None:
    """None, with everything that is wrong added to `found`, where it cannot be had."""
    shape = model_shape(config.model)
    if isinstance(shape, Problem):
        found.append(shape)
    elif shape.experts is not None and trains_a_part(config):
        found.append(_whole_mixture(config))
    frozen = 0 if isinstance(shape, Problem) else frozen_parameters(config, shape)
    if isinstance(frozen, Problem):
        found.append(frozen)
        frozen = 0
    known = None if isinstance(shape, Problem) else shape
    batch = _batch(config, known, topology, frozen, peaks) if _countable(config) else None
    if isinstance(batch, Problem):
        found.append(batch)
    if not isinstance(batch, Batch):
        return None
    deepspeed, refused = deepspeed_config(config, batch)
    found += refused
    return None if known is None else _Sized(shape=known, frozen=frozen, batch=batch, deepspeed=deepspeed)


def _timed(
    config: Config,
    sized: _Sized,
    memory: Memory,
    topology: Topology,
    data: Prepared | None,
    measured: Measured | None,
) -> tuple[Lead, Expected]:
    """When the job is told to stop, and what the whole run takes."""
    tokens, row_tokens = step_tokens(config, data)
    setting = Setting(
        config=config,
        shape=sized.shape,
        frozen=sized.frozen,
        memory=memory,
        nodes=topology.nodes,
        ranks=topology.world_size,
        accumulation=sized.batch.accumulation,
        tokens=tokens,
        row_tokens=row_tokens,
    )
    step = pace(setting, data, earlier(config, topology, sized.batch, memory))
    lead = plan_lead(config, memory, topology, measured, step.step_s)
    return lead, expect(config, topology, memory, lead, step, data)


def _whole_mixture(config: Config) -> Problem:
    # transformers joins a block's experts into one tensor, which the model's files do not have.
    return Problem(
        where="adapter" if config.adapter.used else "model.freeze",
        message="a mixture of experts can be trained as a whole only",
        valid="adapter=full" if config.adapter.used else "model.freeze=[]",
    )


def _laid_out(config: Config, topology: Topology, peaks: Peaks) -> tuple[Config, str]:
    """The config with its layout chosen; as it is where that cannot be, which `_sized` tells of."""
    shape = model_shape(config.model)
    frozen = 0 if isinstance(shape, Problem) else frozen_parameters(config, shape)
    spread = _countable(config) and config.train.global_batch_size % topology.world_size == 0
    if isinstance(shape, Problem) or isinstance(frozen, Problem) or not spread:
        return config, "auto"
    return settled(config, shape, frozen, peaks)


def _countable(config: Config) -> bool:
    """Whether the numbers of the batch arithmetic are numbers; `validate` has told of those that are not."""
    micro = config.train.micro_batch_size
    sizes = [config.train.global_batch_size, config.cluster.nodes, config.cluster.gpus_per_node]
    return all(size > 0 for size in sizes) and (micro == AUTO or (type(micro) is int and micro > 0))


def _batch(config: Config, shape: ShapeConfig | None, topology: Topology, frozen: int, peaks: Peaks) -> Batch | Problem:
    def choose(sizes: list[int]) -> tuple[int, str]:
        if shape is None:
            return 1, "the model is not known"
        needed = [(size, memory_of(config, shape, topology, size, frozen, peaks)) for size in sizes]
        most = most_that_fit(needed)
        seen = "".join(f"; {size} took {memory.held_gb:.0f} GiB ({memory.by})" for size, memory in needed if memory.by)
        return (1, f"even 1 is too much{seen}") if most is None else (most[0], f"the largest divisor that fits{seen}")

    return plan_batch(config.train.global_batch_size, config.train.micro_batch_size, topology.world_size, choose)


def _distinct(problems: Sequence[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
