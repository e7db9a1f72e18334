"""States of the optimiser that DeepSpeed's tools do not know: read whole, and carried over to other ranks.

DeepSpeed's conversion and export know the fp32 weights and Adam's two moments in fp32. Whatever else there is of each
element of a partition is put together here from what the ranks wrote, one parameter at a time; and what every rank has
alike is cut up by parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
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
from launcher.checkpoint.packed import unpack_part
from launcher.checkpoint.safe_load import safe_types

AVERAGE = "ema"
"""The moving average of the weights."""
PACKED = {"exp_avg": True, "exp_avg_sq": False}
"""Adam's moments where they are kept in 8 bits, as NAME_codes and NAME_scales; and whether they have a sign."""
FACTORS = "factors"
"""Every rank's, of all parameters of a group: Adafactor's second moments."""

States = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """Stands in for a parameter's state: reads what the ranks have of it when asked to become contiguous."""

    shape: tuple[int, ...]
    """Of the parameter."""
    parts: list[Callable[[], torch.Tensor]]
    """Give it flat, in the order of ranks."""

    def contiguous(self) -> torch.Tensor:
        """The whole tensor."""
        return torch.cat([part() for part in self.parts]).view(self.shape)


def factor_sizes(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a matrix, of which each has a factor; elements of a vector, which has none."""
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (math.prod(shape), 0)


def read_states(folder: Path, manifest: Manifest, key: str) -> dict[str, Pieces]:
    """A state by the parameter's name; empty where the checkpoint has no such state. Files are mapped, not read."""
    shapes, found = _shapes(folder, manifest), dict[str, Pieces]()
    by_name = {name: tuple(shape) for group in shapes for name, shape in group.items()}
    for rank in range(manifest.world_size):
        states, saved = _states(folder, manifest, rank)
        walk = _stage_3(shapes, rank, manifest.world_size) if manifest.zero_stage == 3 else _flat(saved)
        for number, name, start, count in walk:
            state = states.get(number, {})
            if count and (f"{key}_codes" if key in PACKED else key) in state:
                pieces = found.setdefault(name, Pieces(shape=by_name[name], parts=[]))
                pieces.parts.append(partial(_part, state, key, start, count))
        if not found and states:
            # One rank's groups are every rank's.
            break
    return found


def _part(state: States, key: str, start: int, count: int) -> torch.Tensor:
    if key not in PACKED:
        part: torch.Tensor = state[key].narrow(0, start, count)
        return part
    return unpack_part(state[f"{key}_codes"], state[f"{key}_scales"], start, count, signed=PACKED[key])


def _shapes(folder: Path, manifest: Manifest) -> list[Mapping[str, torch.Size]]:
    """Parameters of each group that DeepSpeed steps by itself, in order."""
    model = "zero_pp_rank_0_mp_rank_00" if manifest.zero_stage == 3 else "mp_rank_00"
    shapes: list[Mapping[str, torch.Size]] = _load(folder, f"{model}_model_states.pt")[PARAM_SHAPES]
    return shapes


def _states(folder: Path, manifest: Manifest, rank: int) -> tuple[Mapping[int, States], States]:
    """One rank's states by group, and what they lie in."""
    saved = _load(folder, f"*zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")[OPTIMIZER_STATE_DICT]
    return saved[OPTIMIZER_STATE_DICT if manifest.zero_stage == 3 else BASE_OPTIMIZER_STATE]["state"], saved


def _load(folder: Path, pattern: str) -> Any:
    (path,) = folder.glob(pattern)
    with safe_types():
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)


def _flat(saved: States) -> Iterator[tuple[int, str, int, int]]:
    """Of one rank at stages 1 and 2: parameters one after the other, cut wherever a rank's share ends."""
    for number, places in enumerate(saved[PARAM_SLICE_MAPPINGS]):
        for name, place in places.items():
            yield number, name, place.start, place.numel


def _stage_3(shapes: list[Mapping[str, torch.Size]], rank: int, ranks: int) -> Iterator[tuple[int, str, int, int]]:
    """Of one rank at stage 3: an even share of each parameter, the last one padded."""
    for number, group in enumerate(shapes):
        start = 0
        for name, shape in group.items():
            count = math.prod(shape)
            share = math.ceil(count / ranks)
            yield number, name, start, max(0, min(share, count - rank * share))
            start += share


def carry(source: Path, out: Path, manifest: Manifest, workers: int) -> None:
    """Put into the universal copy `out` what DeepSpeed's conversion of the checkpoint `source` has left behind."""
    for key in (AVERAGE, *PACKED):

        def write(named: tuple[str, Pieces], key: str = key) -> None:
            name, pieces = named
            torch.save({PARAM: pieces.contiguous()}, out / "zero" / name / f"{key}.pt")

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(write, read_states(source, manifest, key).items()))
    states, _ = _states(source, manifest, 0)
    for number, group in enumerate(_shapes(source, manifest)):
        if FACTORS in states.get(number, {}):
            sizes = [sum(factor_sizes(tuple(shape))) for shape in group.values()]
            for name, factors in zip(group, torch.split(states[number][FACTORS], sizes), strict=True):
                # Not `.pt`: DeepSpeed takes all of those for shares of a partition.
                torch.save(factors.clone(), out / "zero" / name / FACTORS)


def load_carried(engine: Any, copy: Path) -> None:
    """Load from a universal copy what DeepSpeed's own loading leaves there."""
    optimiser, third = engine.optimizer, engine.zero_optimization_stage() == 3
    for partition, parameters in partitions_of(engine):
        folders = [copy / "zero" / optimiser.param_names[parameter] for parameter in parameters]
        state = optimiser.optimizer.state[partition]
        # Stages 1 and 2 take all there is.
        if third and all((folder / f"{AVERAGE}.pt").is_file() for folder in folders):
            whole, start = torch.zeros_like(partition), 0
            for folder, parameter in zip(folders, parameters, strict=True):
                part = optimiser.load_hp_checkpoint_state(str(folder), AVERAGE, param=parameter)
                whole.narrow(0, start, part.numel()).copy_(part)
                start += part.numel()
            state[AVERAGE] = whole
        if all((folder / FACTORS).is_file() for folder in folders):
            factors = [torch.load(folder / FACTORS, weights_only=True) for folder in folders]
            state[FACTORS] = torch.cat(factors).to(partition.device)


def partitions_of(engine: Any) -> list[tuple[torch.Tensor, list[Any]]]:
    """What this rank's optimiser updates, and the parameters that it has a share of, of an engine at ZeRO 1 to 3.

    The tensors stay the same ones as long as the engine lives.
    """
    optimiser = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        # Groups list a partition only while it is updated.
        return list(zip(optimiser.fp32_partitioned_groups_flat, optimiser.fp16_groups, strict=True))
    # DeepSpeed's optimiser for bf16 at stage 1 has a name of its own for them.
    groups = optimiser.bf16_groups if hasattr(optimiser, "bf16_groups") else optimiser.bit16_groups
    flat = [partition for group in engine.basic_optimizer.param_groups for partition in group["params"]]
    return list(zip(flat, groups, strict=True))
