"""What was written, read again from the disk and compared bit for bit with what was to be written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from launcher.errors import Problem, StorageError


def read_back(path: Path, wanted: Mapping[str, torch.Tensor]) -> None:
    """StorageError unless the safetensors file at `path`, which must be synced, holds just these tensors.

    One tensor at a time is in memory beside those given.
    """
    _forget(path)
    try:
        with safe_open(path, framework="pt") as file:
            fault = _first_fault(file, wanted)
    except (SafetensorError, OSError) as error:
        fault = str(error)
    if fault is not None:
        raise StorageError(
            Problem(
                where=str(path),
                message=f"it is not what was written there: {fault}",
                remedy="export again, and have the file system checked",
            )
        )


def _first_fault(file: Any, wanted: Mapping[str, torch.Tensor]) -> str | None:
    if set(file.keys()) != set(wanted):
        return f"{len(file.keys())} tensors instead of {len(wanted)}"
    for name, tensor in wanted.items():
        found = file.get_tensor(name)
        if found.dtype != tensor.dtype or found.shape != tensor.shape:
            return f"{name} is {found.dtype} {list(found.shape)} instead of {tensor.dtype} {list(tensor.shape)}"
        # As bytes: no number is other than itself then, as NaN is, nor 0 the same as -0.
        if not torch.equal(found.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)):
            return f"{name} has other values"
    return None


def _forget(path: Path) -> None:
    """Have the kernel give up what it still has of the file in memory, so that reading asks the disk."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
