"""What a container must see of the host for a run to find its files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.config.schema import Config, ModelConfig
from launcher.errors import Problem
from launcher.models.judge import judge_model
from launcher.models.teacher import teacher_model
from launcher.rundir import RunDir


def mounts(config: Config, run: RunDir) -> list[str]:
    """Folders of the host that show inside under their own names, none of them within another. Of a located config."""
    if config.cluster.software.image is None:
        return []
    assert config.data.cache_dir is not None, "located configs name it"
    models = [model for model in (config.model, teacher_model(config), judge_model(config)) if model is not None]
    found = [
        run.root,
        Path(config.data.cache_dir),
        *(folder for model in models for folder in _of_model(config, model)),
    ]
    if config.cluster.scratch_dir is not None:
        found.append(Path(config.cluster.scratch_dir))
    if config.cluster.local_dir is not None:
        # Of a folder named after the job, only what lies above is there before the job is.
        found.append(Path(config.cluster.local_dir.split("%j")[0].rpartition("/")[0] or "/"))
    return [str(folder) for folder in outermost(found)]


def _of_model(config: Config, model: ModelConfig) -> list[Path]:
    folder = Path(model.path)
    return [folder] if folder.is_absolute() else hub_folders(config.cluster.variables)


def hub_folders(variables: dict[str, str]) -> list[Path]:
    """Where Hugging Face's libraries keep what they have loaded, as the job will see it."""
    known = {**os.environ, **variables}
    cache = Path(known.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = [Path(known.get("HF_HOME") or cache / "huggingface")]
    if known.get("HF_HUB_CACHE"):
        found.append(Path(known["HF_HUB_CACHE"]))
    return found


def outermost(folders: Sequence[Path]) -> list[Path]:
    """The folders less those that lie within others of them."""
    distinct = list(dict.fromkeys(folders))
    return [folder for folder in distinct if not any(parent in distinct for parent in folder.parents)]


def mount_problems(config: Config, run: RunDir) -> Iterator[Problem]:
    """Folders that no runtime can mount: it would read more than one path in them."""
    for folder in mounts(config, run):
        if ":" in folder or "," in folder:
            yield Problem(
                where="cluster.software.image",
                message=f"{folder} cannot be mounted in an image, for it holds a colon or a comma",
                remedy="write runs_root=, data.cache_dir= or model.path= with a folder whose path has neither",
            )
