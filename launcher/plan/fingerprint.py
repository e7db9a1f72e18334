"""Short hashes of what decides a run's result. Constant cost: large files are sampled, not read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import launcher
from launcher.config.schema import Config
from launcher.data.key import content_mark
from launcher.data.source import DataSpec
from launcher.runplan import Fingerprint, plain

LAUNCH_SETTINGS = ("runs_root", "cluster", "tracking", "checkpoint")
"""Config groups that change where and how a run is carried out, not what comes of it."""
PREPARATION = ("cache_dir", "workers")
"""Keys of `data` that change how tokens are made and where they are kept, not which."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def fingerprint(config: Config, train_data: DataSpec) -> Fingerprint:
    """What a resume compares."""
    decisive = {key: value for key, value in plain(config).items() if key not in LAUNCH_SETTINGS}
    decisive["data"] = {key: value for key, value in decisive["data"].items() if key not in PREPARATION}
    return Fingerprint(
        config=_digest(json.dumps(decisive, sort_keys=True)),
        code=code_digest(Path(launcher.__file__).resolve().parent),
        data=_digest(*(f"{content_mark(Path(source.path))} {source.limit}" for source in train_data.sources)),
        tokenizer=_tokenizer(config),
        model=_model(config),
    )


def code_digest(package: Path) -> str:
    """Hash of every source file below `package`, names included."""
    files = sorted(package.rglob("*.py"))
    return _digest(*(f"{file.relative_to(package)}\0{file.read_text(encoding='utf-8')}" for file in files))


def _tokenizer(config: Config) -> str:
    folder = Path(config.model.path)
    template = config.data.chat_template
    parts = [Path(template).read_text(encoding="utf-8") if template is not None else ""]
    if not folder.is_dir():
        return _digest(config.model.path, str(config.model.revision), *parts)
    files = [folder / name for name in TOKENIZER_FILES]
    return _digest(*(content_mark(file) for file in files if file.is_file()), *parts)


def _model(config: Config) -> str:
    folder = Path(config.model.path)
    if not folder.is_dir():
        return _digest(config.model.path, str(config.model.revision), config.model.init.value)
    weights = [f"{file.name} {file.stat().st_size}" for file in sorted(folder.glob("*.safetensors"))]
    return _digest((folder / "config.json").read_text(encoding="utf-8"), config.model.init.value, *weights)


def _digest(*parts: str) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        hasher.update(part.encode())
        hasher.update(b"\0")
    return hasher.hexdigest()[:16]
