"""The trained weights of a checkpoint by name, each read from the ranks' files and joined when it is asked for.

Where each lies is DeepSpeed's own arithmetic (zero_to_fp32). Files are mapped: what is not asked for is not read, and
the kernel may take back what was.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from launcher.checkpoint.safe_load import mapped_files, safe_types


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """Stands in for a tensor that lies in one flat vector, of which every rank has a part."""

    parts: Sequence[torch.Tensor]
    """The vector, rank by rank."""
    offset: int
    """Where the tensor begins in it, in elements."""
    shape: tuple[int, ...]
    """Of the tensor."""

    def contiguous(self) -> torch.Tensor:
        """The tensor."""
        begin, end, pieces = self.offset, self.offset + math.prod(self.shape), []
        for part in self.parts:
            pieces.append(part[max(0, begin) : max(0, end)])
            begin, end = begin - part.numel(), end - part.numel()
        return torch.cat(pieces).view(self.shape)


def trained_weights(folder: Path, zero_stage: int) -> dict[str, Any]:
    """Name to tensor, or to a stand-in that becomes one when asked to become contiguous; fp32 but for stage 0."""
    # Also for the torch.load calls inside DeepSpeed, which ask for pickles.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    # Nothing here needs a GPU, and without one DeepSpeed would say so.
    os.environ["DS_ACCELERATOR"] = "cpu"
    with safe_types(), mapped_files():
        if zero_stage == 0:
            states = torch.load(folder / "mp_rank_00_model_states.pt", map_location="cpu", weights_only=True)
            return dict(states["module"])
        # DeepSpeed tells of its progress on stdout and stderr, where only our own lines belong.
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            return _partitioned(str(folder))


def _partitioned(folder: str) -> dict[str, Any]:
    from deepspeed.utils import zero_to_fp32 as theirs

    states = theirs.parse_model_states(theirs.get_model_state_files(folder))
    stage, ranks, vectors, paddings = theirs.parse_optim_states(theirs.get_optim_files(folder), folder)
    if stage == 3:
        return dict(theirs._get_fp32_state_dict_from_zero3_checkpoint(ranks, vectors, states, False))
    # At these stages DeepSpeed joins whole vectors. Of hollow ones, only the places come out.
    hollow = [[torch.empty_like(part, device="meta") for part in parts] for parts in vectors]
    found = dict(theirs._get_fp32_state_dict_from_zero2_checkpoint(ranks, hollow, states, False, paddings))
    slices = {
        id(found[name]): Slice(
            parts=[parts[group] for parts in vectors],
            offset=found[name].storage_offset(),
            shape=tuple(found[name].shape),
        )
        for group, names in enumerate(states[0].param_shapes)
        for name in names
    }
    # What two layers share has two names for one tensor.
    return {name: slices.get(id(tensor), tensor) for name, tensor in found.items()}
