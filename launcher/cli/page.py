"""A plan as a page that a person can check line by line. Text only; computes nothing that the plan does not say."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from launcher.cli.time_page import disk_lines, time_lines
from launcher.config.evaluate import scored_sets
from launcher.config.sources import typed
from launcher.config.survival import Action
from launcher.config.then import Stage
from launcher.data.feed.largest import record_type
from launcher.data.source import DataSpec
from launcher.objectives.protocol import Teacher
from launcher.objectives.registry import objective_of, settled
from launcher.plain import plain
from launcher.plan.host import copy_gb, offloaded_gb
from launcher.plan.memory import MARGIN
from launcher.plan.prepared import trained_tokens
from launcher.plan.then import export_gb
from launcher.runplan import RunPlan

INDENT = 14


def page(plan: RunPlan) -> str:
    """The whole page, without a final newline."""
    sections = {
        "Run": _run(plan),
        "Topology": _topology(plan),
        "Batch": _batch(plan),
        "Model": _model(plan),
        "Objective": _objective(plan),
        "Memory": _memory(plan),
        "Precision": _precision(plan),
        "Optimiser": _optimiser(plan),
        "Data": _data(plan),
        "Time": time_lines(plan),
        "Checkpoints": _checkpoints(plan),
        "Stopping": _stopping(plan),
        "Then": _then(plan),
        "Tracking": _tracking(plan),
        "Slurm": _slurm(plan),
        "Fingerprint": _fingerprint(plan),
        "WARNING": _warnings(plan),
    }
    lines = []
    for name, texts in sections.items():
        lines += [f"{name if first else '':<{INDENT}}{text}" for first, text in _marked(texts)]
    return "\n".join(lines)


def _marked(texts: Iterator[str]) -> Iterator[tuple[bool, str]]:
    return ((index == 0, text) for index, text in enumerate(texts))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _run(plan: RunPlan) -> Iterator[str]:
    yield f"{plan.run_id} (recipe {plan.recipe})"
    yield f"in {plan.run_dir}"


def _topology(plan: RunPlan) -> Iterator[str]:
    topology, cluster = plan.topology, plan.config.cluster
    machine = "this machine" if plan.slurm is None else _count(topology.nodes, "node")
    yield f"{machine} × {_count(topology.ranks_per_node, 'rank')} = {_count(topology.world_size, 'rank')}"
    yield f"accelerator {cluster.accelerator.value}, {cluster.gpu_memory_gb:g} GiB each"


def _batch(plan: RunPlan) -> Iterator[str]:
    batch, train = plan.batch, plan.config.train
    yield (
        f"global {batch.global_batch_size} = micro {batch.micro_batch_size} × accumulation {batch.accumulation}"
        f" × {batch.data_parallel_size} ranks"
    )
    yield f"micro batch {batch.chosen}"
    tokens = batch.global_batch_size * plan.config.data.seq_len * plan.train_data.learns.rows_per_example
    yield f"at most {tokens:,} tokens a step (sequences of up to {plan.config.data.seq_len:,})"
    length = f"{train.epochs:g} epochs" if train.max_steps is None else _count(train.max_steps, "step")
    yield length + (f", to be stopped after step {train.stop_at}" if train.stop_at else "") + f", seed {train.seed}"
    every = "at the start and the end" if train.eval_every is None else f"every {_count(train.eval_every, 'step')}"
    yield f"evaluated {every}" if plan.eval_data else "not evaluated (data.eval is null)"
    if plan.config.evaluate.prompts:
        asked = _count(len(plan.config.evaluate.prompts), "prompt")
        yield f"{asked} answered each time, in at most {plan.config.evaluate.max_new_tokens} tokens"
    asks = plan.config.evaluate.answers
    for key, names in scored_sets(asks, plan.eval_data).items():
        rows = "all rows" if asks.limit is None else f"{asks.limit} rows at most"
        yield f"{rows} of {typed(key)} answered each time, in at most {asks.max_new_tokens} tokens: {', '.join(names)}"
    if train.patience is not None:
        best_by = plan.config.checkpoint.best_by
        yield f"stopped early after {_count(train.patience, 'evaluation')} without a better {best_by}"


def _model(plan: RunPlan) -> Iterator[str]:
    model = plan.config.model
    yield model.path + ("" if model.revision is None else f" at {model.revision}")
    kept = "activations recomputed" if model.activation_checkpointing else "activations kept"
    part = plan.memory.trained != plan.memory.parameters
    trained = f"; {plan.memory.trained:,} parameters are trained" if part else ""
    experts = f", of which a token goes through {plan.memory.active:,}" if _mixes(plan) else ""
    yield f"{plan.memory.parameters:,} parameters{experts}, {model.init.value} weights{trained}"
    yield f"{model.attention.value} attention, {kept}"
    yield from _trained_part(plan)


def _mixes(plan: RunPlan) -> bool:
    return plan.memory.active != plan.memory.parameters


def _trained_part(plan: RunPlan) -> Iterator[str]:
    adapter = plan.config.adapter
    if adapter.used:
        kinds = [name for name, used in (("rsLoRA", adapter.rslora), ("DoRA", adapter.dora)) if used]
        words = [f"rank {adapter.r}, alpha {adapter.alpha:g}", *kinds, f"on {', '.join(adapter.targets)}"]
        yield f"{adapter.kind.value}: {', '.join(words)}"
        if adapter.train_also:
            yield f"trained as well: {', '.join(adapter.train_also)}"
    elif plan.config.model.freeze:
        yield f"frozen: {', '.join(plan.config.model.freeze)}"


def _objective(plan: RunPlan) -> Iterator[str]:
    objective = plan.config.objective
    needs = objective_of(plan.config).needs
    yield f"{objective.name}, the loss a mean over {needs.per.value}s"
    yield ", ".join(f"{name}={value}" for name, value in settled(objective.name, objective.options).items())
    if needs.reference:
        yield "the untrained model is asked once about every row, before the first step"
    if needs.teacher is not None and needs.teacher.top_k is not None:
        yield from _asked_once(plan, needs.teacher, needs.teacher.top_k)
    elif needs.teacher is not None:
        yield f"{needs.teacher.path or 'a copy of the untrained model'} is held beside the model, frozen"


def _asked_once(plan: RunPlan, teacher: Teacher, k: int) -> Iterator[str]:
    yield f"{teacher.path} is asked once about every row, before the first step, and held no longer"
    each, tokens = record_type(k).itemsize, trained_tokens(plan)
    size = (
        f"{each / 1000:,.3g} GB for a million (for all, once the data is prepared)"
        if tokens is None
        else f"{each * tokens / 1e9:,.3g} GB for all"
    )
    yield f"{each:,} bytes a trained token stay in the run directory: {size}"


def _memory(plan: RunPlan) -> Iterator[str]:
    memory = plan.memory
    if plan.host is not None:
        yield "estimate per rank on CPUs, GB, beside the interpreter and its libraries:"
        told = {name: f"{value / 1e9:,.1f}" for name, value in plain(plan.host).items()}
        yield "  " + ", ".join(f"{name} {size}" for name, size in told.items())
    yield f"estimate per GPU, when it holds most: {memory.when}"
    rows = {
        "parameters, gradients, optimiser": memory.states_gb,
        "buffers and copies": memory.buffers_gb,
        "activations and logits": memory.activations_gb,
        "together": memory.total_gb,
    }
    for name, size_gb in rows.items():
        yield f"  {name:<33}{size_gb:>8.1f} GiB"
    if memory.measured_gb is not None:
        yield f"  {memory.by:<33}{memory.measured_gb:>8.1f} GiB"
    limit_gb = MARGIN * memory.available_gb
    yield f"  {'may fill':<33}{limit_gb:>8.1f} GiB ({MARGIN:.0%} of {memory.available_gb:g})"
    nodes, config = plan.topology.nodes, plan.config
    copy, offloaded = copy_gb(config, memory, nodes), offloaded_gb(config, memory, nodes)
    parts = [f"{copy:,.1f} for the copy that a checkpoint is written from"] if copy else []
    parts += [f"{offloaded:,.1f} for what is offloaded"] if offloaded else []
    if parts:
        yield f"host memory a node, GB, beside the processes' own: {' and '.join(parts)}"


def _precision(plan: RunPlan) -> Iterator[str]:
    zero = plan.config.zero
    offloaded = [
        name for name, moved in (("optimiser", zero.offload_optimizer), ("parameters", zero.offload_param)) if moved
    ]
    where = f", {' and '.join(offloaded)} in host memory" if offloaded else ""
    yield f"{plan.config.precision.dtype.value}, ZeRO stage {zero.stage}{where}"
    if plan.layout != "as set":
        yield plan.layout


def _optimiser(plan: RunPlan) -> Iterator[str]:
    optim, schedule = plan.config.optim, plan.config.schedule
    clip = "no clipping" if optim.grad_clip is None else f"gradients clipped at {optim.grad_clip:g}"
    yield f"{optim.name}, peak learning rate {optim.lr:g}, weight decay {optim.weight_decay:g}, betas {optim.betas}"
    if optim.ema_decay is not None:
        yield f"a moving average of the weights, decay {optim.ema_decay:g}"
    yield (
        f"{schedule.name.value} schedule: warm-up over {schedule.warmup_ratio:.1%} of the steps,"
        f" down to {schedule.min_ratio:.0%} of the peak; {clip}"
    )


def _data(plan: RunPlan) -> Iterator[str]:
    yield from _sources("train", plan.train_data)
    for key, spec in plan.eval_data.items():
        yield from _sources(f"{key:<5}", spec)
    template = plan.train_data.chat_template or "the tokenizer's own"
    yield f"chat template {template}; longer rows: {plan.train_data.overlong.value}"
    yield f"tokenised data is kept in {plan.data_cache}"
    if plan.data_job is not None:
        job = plan.config.cluster.data_job
        yield f"where it is not there yet, a job of {job.cpus} CPU cores tokenises first, and training waits for it"


def _sources(name: str, spec: DataSpec) -> Iterator[str]:
    for source in spec.sources:
        limit = "" if source.limit is None else f", first {source.limit:,} rows"
        yield f"{name} {source.name} ({source.format.value}{limit})"


def _checkpoints(plan: RunPlan) -> Iterator[str]:
    checkpoint = plan.config.checkpoint
    every = "at the end" if checkpoint.every_steps is None else f"every {_count(checkpoint.every_steps, 'step')}"
    kept = "all are kept" if checkpoint.keep_last is None else f"the last {checkpoint.keep_last} are kept"
    if checkpoint.keep_every is not None:
        kept += f", every {_count(checkpoint.keep_every, 'step')} one stays"
    if checkpoint.keep_best is not None:
        kept += f", and the best {checkpoint.keep_best} by {checkpoint.best_by}"
    yield f"{every}; {kept}"
    yield from disk_lines(plan)


def _stopping(plan: RunPlan) -> Iterator[str]:
    lead = plan.lead
    how = "measured" if lead.measured else "assumed"
    if plan.slurm is not None:
        yield f"told to stop {lead.seconds} s before the time limit of {plan.config.cluster.time_min} min"
        yield f"a step of {lead.step_s:g} s and a checkpoint of {lead.save_s:g} s ({how}), taken twice: {lead.needed} s"
    policy = plain(plan.config.retry)
    for action in Action:
        names = [name for name, value in policy.items() if value == action.value]
        if names:
            yield f"{action.value.replace('_', ' ')}: {', '.join(names)}"


def _then(plan: RunPlan) -> Iterator[str]:
    then, cluster = plan.config.then, plan.config.cluster
    shapes = {
        Stage.export: _count(cluster.export_job.cpus, "CPU core")
        + f" and {cluster.export_job.mem_gb or export_gb(plan.config, plan.memory)} GB",
        Stage.eval: _count(cluster.eval_job.gpus, "GPU") + f" and {_count(cluster.eval_job.cpus, 'CPU core')}",
    }
    for stage in then.stages:
        tasks = f" ({', '.join(then.tasks)})" if stage is Stage.eval else ""
        where = "a process on this machine" if plan.slurm is None else f"a job of {shapes[stage]}"
        yield f"{stage.value}{tasks}: {where}"
    if not then.stages:
        yield "nothing (`--then export`, `--then eval --tasks A,B`)"


def _tracking(plan: RunPlan) -> Iterator[str]:
    tracking = plan.config.tracking
    project = "/".join(part for part in (tracking.entity, tracking.project) if part)
    yield "metrics.jsonl" + ("" if tracking.wandb.value == "disabled" else f", W&B {tracking.wandb.value} ({project})")


def _slurm(plan: RunPlan) -> Iterator[str]:
    if plan.slurm is None:
        yield "none: ranks start on this machine"
        return
    shown = {key: value for key, value in plan.slurm.items() if key not in ("setup", "teardown", "job_name", "python")}
    for key, value in plain(shown).items():
        yield f"{key:<20}{_value(value)}"
    yield "(`--sbatch` prints the batch script)"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return shlex.join(map(str, value)) if isinstance(value, list) else str(value)


def _fingerprint(plan: RunPlan) -> Iterator[str]:
    yield ", ".join(f"{name} {digest}" for name, digest in plain(plan.fingerprint).items())


def _warnings(plan: RunPlan) -> Iterator[str]:
    for problem in plan.warnings:
        yield from str(problem).splitlines()
