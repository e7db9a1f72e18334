"""Where a model's files are: a folder as given, or a hub model's snapshot, downloaded once for all ranks."""

from __future__ import annotations

from pathlib import Path

from launcher.config.schema import Init, ModelConfig
from launcher.errors import Problem, UserError

SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
"""Config and tokenizer."""


def cached(model: ModelConfig) -> Path | None:
    """The folder of the model's config and tokenizer if it is on this machine already; asks no network."""
    if Path(model.path).is_dir():
        return Path(model.path)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(model.path, revision=model.revision, allow_patterns=[*SMALL_FILES], local_files_only=True)
        )
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError):
        return None


def resolve(model: ModelConfig, *, weights: bool = True, key: str = "model.path") -> Path:
    """The folder of the model; UserError when a hub model is neither cached nor to be had.

    Without `weights`, only config and tokenizer are fetched. `key` is where the user named it.
    """
    if Path(model.path).is_dir():
        return Path(model.path)
    from huggingface_hub import snapshot_download

    wanted = [*SMALL_FILES, *(("*.safetensors",) if weights and model.init is Init.pretrained else ())]
    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=wanted))
    except Exception as error:  # the hub raises its own, requests' and OS errors
        raise UserError(
            Problem(
                where=key,
                message=f"{model.path} is no folder here, and the hub did not give it: {str(error).splitlines()[0]}",
                valid="a folder with config.json, tokenizer and safetensors, or a hub id (ORG/NAME)",
                remedy=f"on a machine with network, and the same HF_HOME: hf download {model.path}",
            )
        ) from error
