"""Paths of a config: made absolute once, and checked on disk at constant cost before anything is queued."""

from __future__ import annotations

import ast
import importlib.util
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.config.adapter import AdapterKind
from launcher.config.cluster import ClusterConfig
from launcher.config.evaluate import scored_sets
from launcher.config.schema import Config, DataConfig, Init
from launcher.config.sources import HELD_OUT, Entry, held_out_sets, source_entries, typed, written
from launcher.data.check import check_head, check_template
from launcher.data.files import expanded
from launcher.data.source import DataSpec, Hub, Source
from launcher.errors import Problem
from launcher.evaluate.scores import ROUGE
from launcher.evaluate.task_files import is_file
from launcher.models.judge import judge_problems
from launcher.models.shape import looks_local
from launcher.objectives import registry
from launcher.objectives.registry import objective_of
from launcher.remember import remembered
from launcher.rundir import RunDir


def locate(config: Config, work_dir: Path) -> Config:
    """The config with every path absolute, as seen from `work_dir`, so that it means the same on every node."""

    def absolute(path: str) -> str:
        return os.path.abspath(work_dir / Path(path).expanduser())

    def entries(value: Any, where: str) -> list[dict[str, Any]]:
        found = source_entries(value, where, [])
        return [written(entry if entry.path is None else replace(entry, path=absolute(entry.path))) for entry in found]

    def of_model(path: str) -> str:
        return absolute(path) if looks_local(path) or (work_dir / path).is_dir() else path

    data, model, objective, prompts = config.data, config.model, config.objective, config.evaluate.prompts
    options = registry.located(objective.name, objective.options, of_model)
    rollouts = objective_of(config).needs.rollouts
    if rollouts is not None:
        options = {**options, "reward": absolute(rollouts.reward)}
    root = absolute(config.runs_root)
    cluster = located(config.cluster, work_dir)
    return replace(
        config,
        runs_root=root,
        model=replace(model, path=of_model(model.path)),
        objective=replace(objective, options=options),
        data=replace(
            data,
            train=entries(data.train, "data.train"),
            eval=_held_out_entries(data.eval, entries),
            chat_template=None if data.chat_template is None else absolute(data.chat_template),
            cache_dir=absolute(data.cache_dir) if data.cache_dir else _cache_dir(cluster.scratch_dir, root),
        ),
        cluster=cluster,
        evaluate=replace(config.evaluate, prompts=absolute(prompts) if isinstance(prompts, str) else prompts),
        then=replace(config.then, tasks=[absolute(task) if is_file(task) else task for task in config.then.tasks]),
    )


def located(cluster: ClusterConfig, work_dir: Path) -> ClusterConfig:
    """The profile with the paths of this machine's file systems absolute."""

    def absolute(path: str | None) -> str | None:
        return None if path is None else os.path.abspath(work_dir / Path(path).expanduser())

    software = cluster.software
    conda = absolute(software.conda) if software.conda and software.conda[0] in "/~." else software.conda
    return replace(
        cluster,
        scratch_dir=absolute(cluster.scratch_dir),
        prologue=absolute(cluster.prologue),
        software=replace(software, venv=absolute(software.venv), conda=conda),
    )


def _cache_dir(scratch_dir: str | None, runs_root: str) -> str:
    return os.path.join(scratch_dir, "launcher-data") if scratch_dir else os.path.join(runs_root, ".data")


def _held_out_entries(value: Any, entries: Callable[[Any, str], list[dict[str, Any]]]) -> Any:
    """The held-out sets as they were written: one without a name, by name, or none."""
    found = {key: entries(rows, typed(key)) for key, rows in held_out_sets(value).items()}
    named = {key.removeprefix(f"{HELD_OUT}_"): rows for key, rows in found.items() if key != HELD_OUT}
    return named or found.get(HELD_OUT)


def train_spec(config: Config, run: RunDir) -> DataSpec:
    """What decides the tokens of `data.train`; all held-out rows are kept out of it."""
    held_out = [rows for value in _eval_sources(config).values() for rows in value]
    return replace(_spec(config, _sources(config.data, config.data.train, "data.train"), run), held_out=tuple(held_out))


def eval_specs(config: Config, run: RunDir) -> dict[str, DataSpec]:
    """The same of each held-out set: `eval` where it has no name, else `eval_NAME`."""
    slices = tuple(config.data.slices)
    return {key: replace(_spec(config, rows, run), slices=slices) for key, rows in _eval_sources(config).items()}


def _eval_sources(config: Config) -> dict[str, tuple[Source, ...]]:
    """The sources of each held-out set."""
    return {key: _sources(config.data, rows, typed(key)) for key, rows in held_out_sets(config.data.eval).items()}


@remembered
def _sources(data: DataConfig, value: Any, where: str) -> tuple[Source, ...]:
    return tuple(_source(data, entry) for entry in source_entries(value, where, []))


def _spec(config: Config, sources: tuple[Source, ...], run: RunDir) -> DataSpec:
    """Names the chat template's copy in the run directory: the user's own may change while the job waits."""
    needs = objective_of(config).needs
    return DataSpec(
        sources=sources,
        held_out=(),
        tokenizer=config.model.path,
        chat_template=None if config.data.chat_template is None else str(run.chat_template),
        train_on=config.data.train_on,
        seq_len=config.data.seq_len,
        overlong=config.data.overlong,
        clean=config.data.clean,
        learns=needs.learns,
        labels=needs.head.labels if needs.head is not None else (),
    )


def _source(data: DataConfig, entry: Entry) -> Source:
    hub = None
    if entry.hub is not None:
        hub = Hub(name=entry.hub, config=entry.subset, split=entry.split or "train", revision=entry.revision)
    return Source(
        name=entry.hub or str(entry.path),
        paths=() if entry.path is None else expanded(entry.path),
        hub=hub,
        format=entry.format or data.format,
        columns=entry.columns,
        unit=entry.unit,
        limit=entry.limit,
        weight=entry.weight,
        count=entry.count,
        tags=entry.tags,
    )


def check_paths(config: Config, run: RunDir) -> Iterator[Problem]:
    """What is missing or unreadable on disk. The cost does not grow with the size of the data or of the model."""
    for key, spec in {"train": train_spec(config, run), **eval_specs(config, run)}.items():
        for source in spec.sources:
            yield from check_head(source, typed(key), config.data.clean, learns=spec.learns, labels=spec.labels)
            if spec.chat_template is None and Path(spec.tokenizer).is_dir():
                yield from check_template(source, Path(spec.tokenizer), "data.chat_template", spec.learns)
    yield from _check_chat_template(config.data.chat_template)
    yield from _check_reward(config)
    yield from _check_model(config)
    yield from _check_packages(config)
    yield from _check_root("runs_root", config.runs_root)
    assert config.data.cache_dir is not None, "located configs name it"
    yield from _check_root("data.cache_dir", config.data.cache_dir)
    yield from check_site(config.cluster)


def check_site(cluster: ClusterConfig) -> Iterator[Problem]:
    """What of a located profile is missing on disk."""
    if cluster.prologue is not None:
        try:
            Path(cluster.prologue).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            message = f"{cluster.prologue} cannot be read ({reason})"
            yield Problem(where="cluster.prologue", message=message, valid="a file of shell commands, or null")
    venv = cluster.software.venv
    if venv is not None and not os.access(Path(venv) / "bin" / "python", os.X_OK):
        message = f"{venv} is no virtual environment: it has no bin/python"
        yield Problem(where="cluster.software.venv", message=message, remedy=f"python3 -m venv {shlex.quote(venv)}")


def _check_chat_template(template: str | None) -> Iterator[Problem]:
    try:
        if template is not None:
            Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        yield Problem(
            where="data.chat_template",
            message=f"{template} cannot be read ({reason})",
            valid="a Jinja file, or null for the tokenizer's own",
        )


def _check_reward(config: Config) -> Iterator[Problem]:
    """Looks at the text only: the file is run on the nodes, where answers are judged."""
    rollouts = objective_of(config).needs.rollouts
    if rollouts is None:
        return
    path, where = rollouts.reward, "objective.options.reward"
    if rollouts.by_model:
        yield from judge_problems(Path(path), Path(config.model.path))
        return
    valid = "a Python file with `def reward(prompt, answer, reference): …`"
    try:
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        yield Problem(where=where, message=f"{path} cannot be read ({error.strerror})", valid=valid)
    except (SyntaxError, ValueError) as error:
        yield Problem(where=where, message=f"{path} is no Python: {error}", valid=valid)
    else:
        names = [name for node in tree.body for name in _names(node)]
        if "reward" not in names:
            yield Problem(where=where, message=f"{path} has no function reward", valid=valid)


def _names(node: ast.stmt) -> Iterator[str]:
    """What a statement at the top of a file names."""
    if isinstance(node, ast.FunctionDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)


def _check_model(config: Config) -> Iterator[Problem]:
    folder = Path(config.model.path)
    if not folder.is_dir():
        return
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer_config.json").is_file():
        yield Problem(
            where="model.path",
            message=f"{folder} holds no tokenizer",
            valid="tokenizer.json and tokenizer_config.json beside config.json",
            remedy="save the tokenizer there: tokenizer.save_pretrained(DIR)",
        )
    if config.model.init is Init.pretrained and not any(folder.glob("*.safetensors")):
        yield Problem(
            where="model.path",
            message=f"{folder} holds no weights (*.safetensors)",
            remedy="save them with model.save_pretrained(DIR), or write model.init=random",
        )


def _check_packages(config: Config) -> Iterator[Problem]:
    if config.adapter.kind is AdapterKind.qlora and importlib.util.find_spec("bitsandbytes") is None:
        yield Problem(
            where="adapter",
            message="qlora needs bitsandbytes, which is not installed here",
            remedy="pip install zero-launcher[qlora], in the environment that the nodes use",
        )
    scored = scored_sets(config.evaluate.answers, held_out_sets(config.data.eval))
    if any(ROUGE in names for names in scored.values()) and importlib.util.find_spec("rouge_score") is None:
        yield Problem(
            where="evaluate.answers.metrics",
            message="rouge needs rouge-score, which is not installed here",
            remedy="pip install zero-launcher[rouge], in the environment that the nodes use",
        )


def _check_root(key: str, path: str) -> Iterator[Problem]:
    root = Path(path)
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if not existing.is_dir():
        yield Problem(where=key, message=f"{existing} is a file, so {root} cannot be a folder")
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield Problem(
            where=key,
            message=f"{existing} cannot be written to",
            remedy=f"write {key}=DIR with a folder of yours on the shared file system",
        )
