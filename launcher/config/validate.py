"""Rules between values that types cannot say. Pure: no disk, no network, no process group.

Each rule is a generator over one concern that yields every Problem it finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from launcher.config.answers import answers_problems
from launcher.config.cluster import ClusterKind
from launcher.config.cluster_rules import cluster_problems
from launcher.config.evaluate import scored_sets
from launcher.config.optimisers import STATE_BYTES, unfit_for_zero
from launcher.config.partial import partial_problems
from launcher.config.ranges import AUTO
from launcher.config.ranges import positive as _positive
from launcher.config.ranges import share as _share
from launcher.config.schema import Config, Dtype, Init
from launcher.config.sources import HELD_OUT, held_out_sets, source_entries, typed
from launcher.config.then import then_problems
from launcher.data.source import Learns, Overlong
from launcher.errors import Problem, closest_first
from launcher.measures import best_names
from launcher.objectives import registry
from launcher.plain import plain
from launcher.secrets import secret_values


def validate(config: Config) -> list[Problem]:
    """Everything that is wrong with a well-typed config; empty when it can be planned."""
    rules = (
        _paths,
        _length,
        _checkpoint,
        _batch_numbers,
        _optimiser,
        _schedule,
        _zero,
        _data,
        _evaluate,
        answers_problems,
        then_problems,
        _model,
        partial_problems,
        _rollouts,
        lambda config: cluster_problems(config.cluster),
        _survival,
    )
    return [problem for rule in rules for problem in rule(config)]


PATH_KEYS = (
    "data.train",
    "data.eval",
    "data.chat_template",
    "data.cache_dir",
    "model.path",
    "objective.options.reward",
    "then.tasks",
    "runs_root",
    "cluster.scratch_dir",
    "cluster.local_dir",
    "cluster.prologue",
    "cluster.software.venv",
    "cluster.software.conda",
    "cluster.software.image",
    "cluster.software.mounts",
    "cluster.software.python",
)
"""Keys whose values name files and folders."""
READING_KEYS = ("objective", "evaluate.prompts", "evaluate.answers", *PATH_KEYS)
"""Keys that decide what is read, and as what; where one is at fault, the disk is not looked at."""


def secrets_in(config: Config) -> Iterator[Problem]:
    """Config values that hold a secret of this process's environment: config and plan are written to files."""
    values = {value: name for name, value in secret_values()}
    if not values:
        return
    for key, text in _texts(plain(config), ""):
        for value, name in values.items():
            if value in text:
                yield Problem(
                    where=key,
                    message=f"the value holds the secret of ${name}, and the config is written to files",
                    remedy=f"leave it out; what needs {name} reads it from the environment",
                )


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str):
        yield key, value


def _paths(config: Config) -> Iterator[Problem]:
    groups = {key.partition(".")[0] for key in PATH_KEYS}
    named = {field.name: plain(getattr(config, field.name)) for field in fields(config) if field.name in groups}
    for key, text in _texts(named, ""):
        if not key.startswith(PATH_KEYS):
            continue
        if not text.isprintable():
            yield Problem(where=key, message=f"{text!r} holds characters that no path should")
        elif len(text.encode()) > 3000 or any(len(part.encode()) > 255 for part in text.split("/")):
            yield Problem(where=key, message=f"{text[:60]!r}… is longer than a path can be")
    # Slurm expands % in the names of its log files, which lie in the run directory.
    if config.cluster.kind is ClusterKind.slurm and "%" in config.runs_root:
        yield Problem(where="runs_root", message=f"{config.runs_root!r} holds a %, which Slurm expands in log paths")


def _length(config: Config) -> Iterator[Problem]:
    train = config.train
    if (train.max_steps is None) == (train.epochs is None):
        seen = "neither is set" if train.max_steps is None else f"both are set ({train.max_steps} and {train.epochs})"
        yield Problem(
            where="train.max_steps, train.epochs",
            message=f"the length of the run is not clear: {seen}",
            valid="exactly one of the two",
            remedy="add train.epochs=1, or train.max_steps=N train.epochs=null",
        )
    if train.patience is not None and (config.data.eval is None or train.eval_every is None):
        yield Problem(
            where="train.patience",
            message="nothing is evaluated on the way, so nothing can stop the run early",
            remedy="name data.eval and set train.eval_every=N, or write train.patience=null",
        )
    for name in ("max_steps", "epochs", "eval_every", "patience", "stop_at"):
        yield from _positive(f"train.{name}", getattr(train, name))
    if train.stop_at is not None and train.max_steps is not None and train.stop_at > train.max_steps:
        yield Problem(
            where="train.stop_at",
            message=f"{train.stop_at} lies behind the end of the run",
            valid=f"1 to train.max_steps={train.max_steps}, or null",
        )


def _checkpoint(config: Config) -> Iterator[Problem]:
    checkpoint = config.checkpoint
    for name in ("every_steps", "keep_last", "keep_every", "keep_best"):
        yield from _positive(f"checkpoint.{name}", getattr(checkpoint, name))
    for name in ("keep_every", "keep_best"):
        if checkpoint.keep_last is None and getattr(checkpoint, name) is not None:
            yield Problem(
                where=f"checkpoint.{name}",
                message="it keeps nothing in addition: with checkpoint.keep_last=null every checkpoint stays",
                remedy=f"write checkpoint.keep_last=N, or checkpoint.{name}=null",
            )
    yield from _best_by(config)
    if checkpoint.keep_best is not None and config.data.eval is None:
        yield Problem(
            where="checkpoint.keep_best",
            message="without held-out data (data.eval=null) there is no best",
            remedy="name data.eval, or write checkpoint.keep_best=null",
        )


def held_out_names(config: Config) -> list[str] | None:
    """What held-out rows will be measured by; None of an objective that is none, or answers that cannot be had."""
    name = config.objective.name
    made = registry.checked(name, config.objective.options, []) if name in registry.names() else None
    if made is None or any(True for _ in answers_problems(config)):
        return None
    sets = held_out_sets(config.data.eval)
    return best_names(made, sets, scored_sets(config.evaluate.answers, sets))


def _best_by(config: Config) -> Iterator[Problem]:
    best_by, names = config.checkpoint.best_by, held_out_names(config)
    if names is None:
        # Something else is told.
        return
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        yield Problem(where="data.eval", message=f"two measures would be called {twice}", remedy="rename a set")
    if best_by not in names:
        yield Problem(
            where="checkpoint.best_by",
            message=f"{best_by!r} is not a held-out measure of this run",
            valid=", ".join(closest_first(best_by, names, limit=len(names))),
        )


def _batch_numbers(config: Config) -> Iterator[Problem]:
    yield from _positive("train.global_batch_size", config.train.global_batch_size)
    micro = config.train.micro_batch_size
    if micro != AUTO and (not isinstance(micro, int) or isinstance(micro, bool) or micro < 1):
        yield Problem(where="train.micro_batch_size", message=f"{micro!r} is not a size", valid="auto, 1, 2, 4, …")
    if not 0 <= config.train.seed < 2**32:
        yield Problem(where="train.seed", message=f"{config.train.seed} is out of range", valid="0 to 4294967295")


def _optimiser(config: Config) -> Iterator[Problem]:
    optim = config.optim
    if optim.name not in STATE_BYTES:
        nearest = ", ".join(closest_first(optim.name, STATE_BYTES))
        yield Problem(where="optim.name", message=f"{optim.name!r} is not an optimiser here", valid=nearest)
    yield from unfit_for_zero(config)
    if optim.ema_decay is not None and not 0 < optim.ema_decay < 1:
        message = f"{optim.ema_decay} is not a share"
        yield Problem(where="optim.ema_decay", message=message, valid="0.999, 0.9999, null")
    yield from _positive("optim.lr", optim.lr)
    yield from _positive("optim.eps", optim.eps)
    yield from _positive("optim.weight_decay", optim.weight_decay, zero_allowed=True)
    yield from _positive("optim.pull_to_start", optim.pull_to_start, zero_allowed=True)
    yield from _positive("optim.grad_clip", optim.grad_clip)
    if optim.layer_decay is not None and not 0 < optim.layer_decay <= 1:
        yield Problem(where="optim.layer_decay", message=f"{optim.layer_decay} is not a share", valid="0.9, 1, null")
    for number, group in enumerate(optim.groups):
        where = f"optim.groups[{number}]"
        yield from _positive(f"{where}.lr_scale", group.lr_scale, zero_allowed=True)
        yield from _positive(f"{where}.weight_decay", group.weight_decay, zero_allowed=True)
        try:
            re.compile(group.match)
        except re.error as error:
            yield Problem(where=f"{where}.match", message=f"{group.match!r} is no regular expression: {error}")
    if not 0 <= optim.momentum < 1:
        yield Problem(where="optim.momentum", message=f"{optim.momentum} is not a decay rate", valid="0.95")
    if len(optim.betas) != 2 or not all(0 <= beta < 1 for beta in optim.betas):
        yield Problem(where="optim.betas", message=f"{optim.betas} are not two decay rates", valid="[0.9, 0.95]")


def _schedule(config: Config) -> Iterator[Problem]:
    for name in ("warmup_ratio", "min_ratio", "decay_ratio"):
        yield from _share(f"schedule.{name}", getattr(config.schedule, name))


def _zero(config: Config) -> Iterator[Problem]:
    zero = config.zero
    if zero.stage not in (0, 1, 2, 3):
        yield Problem(where="zero.stage", message=f"{zero.stage} is not a ZeRO stage", valid="0, 1, 2, 3")
    if zero.stage == 0 and config.precision.dtype is Dtype.fp16:
        yield Problem(
            where="zero.stage",
            message="stage 0 keeps no fp32 sums of gradients, which fp16 overflows without",
            remedy="write zero.stage=1, or precision=bf16",
        )
    if zero.offload_param and zero.stage != 3:
        yield Problem(
            where="zero.offload_param",
            message=f"parameters are partitioned, and can be offloaded, at stage 3 only (zero.stage={zero.stage})",
            remedy="write zero.stage=3 or zero.offload_param=false",
        )
    if zero.offload_optimizer and zero.stage == 0:
        yield Problem(
            where="zero.offload_optimizer",
            message="stage 0 has no partitioned optimiser to offload",
            remedy="write zero.stage=1, 2 or 3, or zero.offload_optimizer=false",
        )
    for name in ("bucket_elements", "prefetch_elements", "persistence_elements", "max_live_elements"):
        yield from _positive(f"zero.{name}", getattr(zero, name), zero_allowed=name != "bucket_elements")


def _data(config: Config) -> Iterator[Problem]:
    problems: list[Problem] = []
    source_entries(config.data.train, "data.train", problems)
    for key, value in held_out_sets(config.data.eval).items():
        source_entries(value, typed(key), problems)
    yield from problems
    yield from _positive("data.seq_len", config.data.seq_len)
    yield from _positive("data.workers", config.data.workers)
    clean = config.data.clean
    yield from _positive("data.clean.min_tokens", clean.min_tokens, zero_allowed=True)
    yield from _positive("data.clean.ngram", clean.ngram)
    yield from _share("data.clean.similarity", clean.similarity)
    yield from _share("data.clean.most_broken", clean.most_broken)


SET_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _evaluate(config: Config) -> Iterator[Problem]:
    value, sets = config.data.eval, held_out_sets(config.data.eval)
    for name in [str(name) for name in value] if isinstance(value, dict) and HELD_OUT not in sets else []:
        if not SET_NAME.fullmatch(name):
            yield Problem(
                where=f"data.eval.{name}",
                message=f"{name!r} cannot stand in the name of a measure",
                valid="a letter, then letters, digits and _, all in lower case",
            )
    if value is not None and not sets:
        yield Problem(where="data.eval", message="no set is named", valid="{NAME: data, …}, data, or null")
    slices, evaluate = config.data.slices, config.evaluate
    if len(set(slices)) < len(slices) or "" in slices:
        yield Problem(where="data.slices", message=f"{slices} are not names of fields, each once")
    yield from _positive("evaluate.max_new_tokens", evaluate.max_new_tokens)
    prompts = evaluate.prompts
    if not isinstance(prompts, str) and not (
        isinstance(prompts, list) and all(isinstance(one, str) for one in prompts)
    ):
        yield Problem(where="evaluate.prompts", message=f"{prompts!r} are no texts", valid="[TEXT, TEXT], or a file")
    for key, asked in (("data.slices", slices), ("evaluate.prompts", prompts)):
        if asked and value is None:
            remedy = f"name data.eval, or write {key}=[]"
            yield Problem(where=key, message="nothing is evaluated (data.eval=null)", remedy=remedy)


def _model(config: Config) -> Iterator[Problem]:
    name, problems = config.objective.name, list[Problem]()
    if name not in registry.names():
        nearest = closest_first(name, registry.names())
        yield Problem(where="objective.name", message=f"{name!r} is not an objective", valid=", ".join(nearest))
    else:
        made = registry.checked(name, config.objective.options, problems)
        if made is not None and made.needs.learns is not Learns.answers and config.data.overlong is Overlong.split:
            yield Problem(
                where="data.overlong",
                message=f"split, but an example of objective={name} is nothing without its end",
                valid="drop, stop, truncate_left, truncate_right",
            )
        if made is not None and made.needs.head is not None and config.evaluate.prompts:
            message = f"a model of objective={name} gives numbers, and no answers"
            yield Problem(where="evaluate.prompts", message=message, remedy="write evaluate.prompts=[]")
        if made is not None and made.needs.head is not None and config.then.tasks:
            message = f"objective={name} trains a head, and the harness asks language models"
            yield Problem(where="then.tasks", message=message, remedy="write then.tasks=[]")
    yield from problems
    if config.model.init is Init.random and config.model.revision is not None:
        yield Problem(where="model.revision", message="a revision has no meaning with model.init=random", valid="null")


def _rollouts(config: Config) -> Iterator[Problem]:
    """Rules between the answers that a model in training gives and the rest of the run."""
    name = config.objective.name
    made = registry.checked(name, config.objective.options, []) if name in registry.names() else None
    if made is None or made.needs.rollouts is None:
        return
    asks, train = made.needs.rollouts, config.train
    if config.data.packing:
        message = f"objective={name} learns from answers that are not there before it trains"
        yield Problem(where="data.packing", message=message, valid="false")
    if asks.max_new_tokens >= config.data.seq_len:
        yield Problem(
            where="objective.options.max_new_tokens",
            message=f"{asks.max_new_tokens} leaves nothing of data.seq_len={config.data.seq_len} for the question",
            valid=f"less than {config.data.seq_len}",
        )
    if train.global_batch_size % asks.group:
        yield Problem(
            where="train.global_batch_size",
            message=f"{train.global_batch_size} answers a step are no whole questions of {asks.group} answers each",
            valid=f"a multiple of objective.options.group={asks.group}",
        )
    steps = {f"train.{key}": getattr(train, key) for key in ("max_steps", "stop_at", "eval_every")}
    for where, value in {**steps, "checkpoint.every_steps": config.checkpoint.every_steps}.items():
        if value is not None and value % asks.updates:
            yield Problem(
                where=where,
                message=f"{value} is within the {asks.updates} steps that learn from one rollout",
                valid=f"a multiple of objective.options.updates={asks.updates}",
            )


def _survival(config: Config) -> Iterator[Problem]:
    yield from _positive("retry.pause_s", config.retry.pause_s, zero_allowed=True)
    yield from _positive("retry.max_without_progress", config.retry.max_without_progress)
    for name in ("start_s", "step_s", "save_s", "end_s"):
        yield from _positive(f"watchdog.{name}", getattr(config.watchdog, name))
    guard, health = config.guard, config.health
    yield from _positive("guard.spike_window", guard.spike_window)
    yield from _positive("guard.max_rollbacks", guard.max_rollbacks, zero_allowed=True)
    if guard.spike_factor <= 1:
        yield Problem(where="guard.spike_factor", message=f"{guard.spike_factor} is no jump", valid="more than 1")
    for name in ("min_free_memory_gb", "min_free_disk_gb", "max_clock_skew_s", "min_bandwidth_gb_s"):
        yield from _positive(f"health.{name}", getattr(health, name), zero_allowed=True)
