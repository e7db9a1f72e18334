"""The weight files of the model that training began with: their tensors one at a time, and a mark of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open

from launcher.data.key import content_mark
from launcher.errors import Problem, UserError

PREFIX = "model."
"""What a head puts before the names of the model below it, where the files were written without one."""


@cache
def base_mark(folder: Path) -> str:
    """A short hash of the weight files, at constant cost per file: sizes, headers and samples of their content."""
    marks = (f"{file.name} {content_mark(file)}" for file in _files(folder))
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def not_by_these_names(folder: Path, lacking: list[str]) -> UserError:
    """What to tell where files have other names for weights than the model."""
    return UserError(
        Problem(
            where="model.path",
            message=f"the weight files in {folder} know {len(lacking)} frozen weights by other names than the model "
            f"does, {lacking[0]} for one",
            remedy="load the model with transformers, and write it again with model.save_pretrained(DIR)",
        )
    )


class BaseWeights:
    """Tensors of a model directory by name; nothing is read before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}
        for file in _files(folder):
            with safe_open(file, framework="pt") as content:
                self._files |= dict.fromkeys(content.keys(), file)

    def lacking(self, names: Iterable[str]) -> list[str]:
        """Those of the names that no file has."""
        return [name for name in names if self._known(name) is None]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        known = self._known(name)
        assert known is not None
        with safe_open(self._files[known], framework="pt") as content:
            return tuple(content.get_slice(known).get_shape())

    def read(self, name: str) -> torch.Tensor:
        """One tensor, whole."""
        known = self._known(name)
        assert known is not None
        with safe_open(self._files[known], framework="pt") as content:
            tensor: torch.Tensor = content.get_tensor(known)
        return tensor

    def _known(self, name: str) -> str | None:
        return next((one for one in (name, name.removeprefix(PREFIX)) if one in self._files), None)
