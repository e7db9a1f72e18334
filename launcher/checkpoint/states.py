"""States of the optimiser that DeepSpeed's tools do not know: read whole, and carried over to other ranks.

DeepSpeed's conversion and export know the fp32 weights and Adam's two moments. Whatever else has an element for each of
a partition's is put together here from what the ranks wrote, one parameter at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from deepspeed.checkpoint.constants import (
    BASE_OPTIMIZER_STATE,
    OPTIMIZER_STATE_DICT,
    PARAM,
    PARAM_SHAPES,
    PARAM_SLICE_MAPPINGS,
)

from launcher.checkpoint.manifest import Manifest
from launcher.checkpoint.safe_load import safe_types

AVERAGE = "ema"
"""The moving average of the weights."""
CARRIED = (AVERAGE,)
"""States that a universal copy has beside those that DeepSpeed puts there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """Stands in for a parameter's state: reads what the ranks have of it when asked to become contiguous."""

    shape: tuple[int, ...]
    """Of the parameter."""
    parts: list[torch.Tensor]
    """Flat, in the order of ranks."""

    def contiguous(self) -> torch.Tensor:
        """The whole tensor."""
        return torch.cat(self.parts).view(self.shape)


def read_states(folder: Path, manifest: Manifest, key: str) -> dict[str, Pieces]:
    """A state by the parameter's name; empty where the checkpoint has no such state. Files are mapped, not read."""
    found: dict[str, Pieces] = {}
    for rank in range(manifest.world_size):
        saved = _load(folder, f"*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")[OPTIMIZER_STATE_DICT]
        if rank == 0:
            model = "zero_pp_rank_0_mp_rank_00" if manifest.zero_stage == 3 else "mp_rank_00"
            shapes = _load(folder, f"{model}_model_states.pt")[PARAM_SHAPES]
        walk = _stage_3(saved, shapes, rank, manifest.world_size) if manifest.zero_stage == 3 else _flat(saved)
        for name, state, start, count in walk:
            if key in state and count:
                shape = next(group[name] for group in shapes if name in group)
                pieces = found.setdefault(name, Pieces(shape=tuple(shape), parts=[]))
                pieces.parts.append(state[key].narrow(0, start, count))
    return found


def _load(folder: Path, pattern: str) -> Any:
    (path,) = folder.glob(pattern)
    with safe_types():
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)


def _flat(saved: Any) -> Iterator[tuple[str, Mapping[str, Any], int, int]]:
    """Of one rank at stages 1 and 2: parameters one after the other, cut wherever a rank's share ends."""
    states = saved[BASE_OPTIMIZER_STATE]["state"]
    for number, places in enumerate(saved[PARAM_SLICE_MAPPINGS]):
        for name, place in places.items():
            yield name, states.get(number, {}), place.start, place.numel


def _stage_3(saved: Any, shapes: Any, rank: int, ranks: int) -> Iterator[tuple[str, Mapping[str, Any], int, int]]:
    """Of one rank at stage 3: an even share of each parameter, the last one padded."""
    states = saved[OPTIMIZER_STATE_DICT]["state"]
    for number, group in enumerate(shapes):
        start = 0
        for name, shape in group.items():
            count = math.prod(shape)
            share = math.ceil(count / ranks)
            yield name, states.get(number, {}), start, max(0, min(share, count - rank * share))
            start += share


def carry(source: Path, out: Path, manifest: Manifest, workers: int) -> None:
    """Put into the universal copy `out` what DeepSpeed's conversion of the checkpoint `source` has left behind."""
    for key in CARRIED:

        def write(named: tuple[str, Pieces], key: str = key) -> None:
            name, pieces = named
            torch.save({PARAM: pieces.contiguous()}, out / "zero" / name / f"{key}.pt")

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(write, read_states(source, manifest, key).items()))


def load_carried(engine: Any, copy: Path) -> None:
    """Load from a universal copy what DeepSpeed's loading at stage 3 leaves there; stages 1 and 2 take all there is."""
    optimiser = engine.optimizer
    if engine.zero_optimization_stage() != 3:
        return
    for key in CARRIED:
        for number, parameters in enumerate(optimiser.fp16_groups):
            folders = [copy / "zero" / optimiser.param_names[parameter] for parameter in parameters]
            if not all((folder / f"{key}.pt").is_file() for folder in folders):
                continue
            partition = optimiser.fp32_partitioned_groups_flat[number]
            whole, start = torch.zeros_like(partition), 0
            for folder, parameter in zip(folders, parameters, strict=True):
                part = optimiser.load_hp_checkpoint_state(str(folder), key, param=parameter)
                whole.narrow(0, start, part.numel()).copy_(part)
                start += part.numel()
            optimiser.optimizer.state[partition][key] = whole
