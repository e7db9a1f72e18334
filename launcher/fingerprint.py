"""Short hashes of what decides a run's result: taken at submission, compared by the prologue, by resume and export.

Constant cost: large files are sampled, not read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import launcher
from launcher.config.schema import Config, ModelConfig
from launcher.data.key import content_mark, looks_for_held_out
from launcher.data.source import DataSpec, Source
from launcher.models.judge import judge_model
from launcher.models.teacher import teacher_model
from launcher.plain import plain
from launcher.remember import remembered
from launcher.runplan import Fingerprint, RunPlan

LAUNCH_SETTINGS = ("runs_root", "cluster", "tracking", "checkpoint", "retry", "watchdog", "health", "evaluate", "then")
"""Config groups that change where and how a run is carried out, not what comes of it."""
LAUNCH_DATA_SETTINGS = ("cache_dir", "workers", "slices")
"""The same within `data`."""
FILES_MARKED = 16
"""Files of a source whose contents count."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def take(config: Config, train_data: DataSpec) -> Fingerprint:
    """All of it, on the submitting machine."""
    return Fingerprint(
        config=_config(config),
        code=code_digest(Path(launcher.__file__).resolve().parent),
        data=data_digest(train_data),
        tokenizer=tokenizer_digest(config.model, config.data.chat_template),
        model=models_digest(config),
    )


def differences(plan: RunPlan) -> list[str]:
    """What the run was planned with and is no longer as it was: names of `data`, `tokenizer` and `model`."""
    model = plan.config.model
    now = {
        "data": data_digest(plan.train_data),
        "tokenizer": tokenizer_digest(model, plan.train_data.chat_template),
        "model": models_digest(plan.config),
    }
    return [name for name, digest in now.items() if digest != getattr(plan.fingerprint, name)]


@remembered
def code_digest(package: Path) -> str:
    """Hash of every source file below `package`, names included."""
    files = sorted(package.rglob("*.py"))
    return _digest(*(f"{file.relative_to(package)}\0{file.read_text(encoding='utf-8')}" for file in files))


@remembered
def data_digest(spec: DataSpec) -> str:
    """Hash of the sources' contents and limits; where they lie does not count.

    Held-out rows count where they decide which rows are trained on. Of many files, all names and sizes count, and the
    contents of a few. A hub data set counts by its names.
    """
    sources = (*spec.sources, *(spec.held_out if looks_for_held_out(spec) else ()))
    return _digest(*(f"{mark} {source.limit}" for source in sources for mark in _source_marks(source)))


def _source_marks(source: Source) -> list[str]:
    if source.hub is not None:
        return [json.dumps(plain(source.hub), sort_keys=True)]
    paths = [Path(path) for path in source.paths]
    if len(paths) <= FILES_MARKED:
        return [content_mark(path) for path in paths]
    picked = [paths[(len(paths) - 1) * number // (FILES_MARKED - 1)] for number in range(FILES_MARKED)]
    sizes = (f"{path.name} {path.stat().st_size}" for path in paths)
    return [_digest(*sizes), *(content_mark(path) for path in picked)]


@remembered
def tokenizer_digest(model: ModelConfig, chat_template: str | None) -> str:
    """Hash of the tokenizer's files, or of its hub id and revision, and of the chat template's text."""
    parts = [Path(chat_template).read_text(encoding="utf-8") if chat_template is not None else ""]
    folder = Path(model.path)
    if not folder.is_dir():
        return _digest(model.path, str(model.revision), *parts)
    files = [folder / name for name in TOKENIZER_FILES]
    return _digest(*(content_mark(file) for file in files if file.is_file()), *parts)


def models_digest(config: Config) -> str:
    """That of the model, and of a teacher or a judge where it has another one."""
    others = [other for other in (teacher_model(config), judge_model(config)) if other is not None]
    digests = [model_digest(other) for other in others if other.path != config.model.path]
    return _digest(model_digest(config.model), *digests) if digests else model_digest(config.model)


@remembered
def model_digest(model: ModelConfig) -> str:
    """Hash of config.json and of the weight files' names and sizes, or of the hub id and revision."""
    folder = Path(model.path)
    if not folder.is_dir():
        return _digest(model.path, str(model.revision), model.init.value)
    weights = [f"{file.name} {file.stat().st_size}" for file in sorted(folder.glob("*.safetensors"))]
    return _digest((folder / "config.json").read_text(encoding="utf-8"), model.init.value, *weights)


def _config(config: Config) -> str:
    names = (field.name for field in dataclasses.fields(config) if field.name not in LAUNCH_SETTINGS)
    decisive = {name: plain(getattr(config, name)) for name in names}
    decisive["data"] = {key: value for key, value in decisive["data"].items() if key not in LAUNCH_DATA_SETTINGS}
    return _digest(json.dumps(decisive, sort_keys=True))


def _digest(*parts: str) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part.encode())
        hasher.update(b"\0")
    return hasher.hexdigest()[:16]
