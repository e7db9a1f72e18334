"""An export whose files are not what was written is not published."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from launcher.checkpoint.read_back import read_back
from launcher.errors import StorageError

WANTED = {"a": torch.tensor([1.0, math.nan, -0.0]), "b": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)}


def written(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path = folder / "model.safetensors"
    save_file(tensors, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


def test_what_was_written_is_found_again_numbers_that_are_none_included(tmp_path: Path) -> None:
    read_back(written(tmp_path, WANTED), WANTED)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({**WANTED, "a": torch.tensor([1.0, math.nan, 0.0])}, "a has other values"),
        ({**WANTED, "b": WANTED["b"].float()}, "b is torch.float32"),
        ({**WANTED, "b": WANTED["b"].reshape(3, 2).contiguous()}, "b is torch.bfloat16 .3, 2."),
        ({"a": WANTED["a"]}, "1 tensors instead of 2"),
        ({"a": WANTED["a"], "c": WANTED["b"]}, "instead of"),
    ],
)
def test_anything_else_is_a_storage_error(tmp_path: Path, tensors: dict[str, torch.Tensor], words: str) -> None:
    with pytest.raises(StorageError, match=words):
        read_back(written(tmp_path, tensors), WANTED)


def test_a_file_that_was_cut_off_is_one_too(tmp_path: Path) -> None:
    path = written(tmp_path, WANTED)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(StorageError, match="not what was written"):
        read_back(path, WANTED)
