"""Going on from the newest checkpoint that every rank finds good: as it is, or by its universal copy."""

from __future__ import annotations

import pickle
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from launcher.checkpoint.copies import loads_directly, read_universal, universal_folder
from launcher.checkpoint.manifest import BASE, Manifest, committed_steps, fault, read_manifest, step_folder
from launcher.checkpoint.safe_load import mapped_files, safe_types
from launcher.checkpoint.states import load_carried
from launcher.checkpoint.trained import put_trained, trains_in_part
from launcher.errors import Problem, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """The checkpoint to go on from."""

    manifest: Manifest
    """Of the folder."""
    folder: Path
    """The checkpoint's, or its universal copy's."""
    universal: bool
    """Which of the two; DeepSpeed wants to know when it is initialised."""


def newest_good_all(checkpoints: Path) -> tuple[Chosen | None, list[tuple[int, str]]]:
    """The newest checkpoint whose files are as its manifest says, and those passed over with the reason; collective.

    Every rank reads a share of the files, so that the check of a checkpoint is one read of it by all together.
    """
    passed: list[tuple[int, str]] = []
    for step in reversed(_agreed_steps(checkpoints)):
        manifest = read_manifest(step_folder(checkpoints, step))
        chosen = None if manifest is None else _loadable(checkpoints, manifest)
        complaints: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(complaints, _complaint(checkpoints, manifest, chosen))
        told = [complaint for complaint in complaints if complaint is not None]
        if not told:
            return chosen, passed
        # Where a copy is missing, a rank that knows what is wrong with the checkpoint itself knows why.
        passed.append((step, next((complaint for complaint in told if complaint != _uncopied(manifest)), told[0])))
    return None, passed


def _agreed_steps(checkpoints: Path) -> list[int]:
    """What rank 0 sees: a shared file system may show the ranks different moments."""
    steps: list[Any] = [committed_steps(checkpoints) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(steps, src=0)
    agreed: list[int] = steps[0]
    return agreed


def _loadable(checkpoints: Path, manifest: Manifest) -> Chosen | None:
    """What so many ranks can load of a checkpoint; None if it was written by another number and not converted."""
    if loads_directly(manifest, dist.get_world_size()):
        return Chosen(manifest=manifest, folder=step_folder(checkpoints, manifest.step), universal=False)
    copy = read_universal(checkpoints, manifest)
    folder = universal_folder(checkpoints, manifest.step)
    return None if copy is None else Chosen(manifest=copy, folder=folder, universal=True)


def _complaint(checkpoints: Path, manifest: Manifest | None, chosen: Chosen | None) -> str | None:
    if manifest is None:
        return "its manifest cannot be read"
    if chosen is None:
        return _first_fault(step_folder(checkpoints, manifest.step), manifest) or _uncopied(manifest)
    return _first_fault(chosen.folder, chosen.manifest)


def _uncopied(manifest: Manifest | None) -> str:
    ranks = 0 if manifest is None else manifest.world_size
    return f"it was written by {ranks} ranks and has no universal copy"


def _first_fault(folder: Path, manifest: Manifest) -> str | None:
    mine = [shard for shard in manifest.shards if shard.rank % dist.get_world_size() == dist.get_rank()]
    faults = (fault(folder, shard, content=True) for shard in mine)
    return next((found for found in faults if found is not None), None)


def require_same_run(manifest: Manifest, *, stage: int, data: str, base: str | None) -> None:
    """UserError when the checkpoint was written with another ZeRO stage, from other data, or over another base."""
    problems = [
        Problem(
            where=f"checkpoint at step {manifest.step}", message=f"{name} was {before}, and is {now}", remedy=remedy
        )
        for name, before, now, remedy in (
            ("the ZeRO stage", manifest.zero_stage, stage, f"resume with zero.stage={manifest.zero_stage}"),
            ("the tokenised data", manifest.data[:12], data[:12], "restore the data files as they were"),
            ("the frozen base", manifest.fingerprint.get(BASE), base, "restore the model's weight files as they were"),
        )
        if before != now
    ]
    if problems:
        raise UserError(*problems)


def load_all(engine: Any, chosen: Chosen | None) -> Manifest | None:
    """Load model and optimiser states into a fresh engine, if there is a checkpoint; collective."""
    if chosen is None:
        return None
    groups = [_settings(group) for group in engine.basic_optimizer.param_groups]
    with ExitStack() as reading:
        if chosen.universal:
            # Every rank opens the file of every parameter, for the part that is its own.
            reading.enter_context(safe_types())
            reading.enter_context(mapped_files())
        # An engine that began from a universal copy may go back to a checkpoint of its own ranks.
        engine._config.load_universal_checkpoint = chosen.universal
        try:
            path, _ = engine.load_checkpoint(
                str(chosen.folder.parent),
                tag=chosen.folder.name,
                load_lr_scheduler_states=False,
                custom_load_fn=put_trained if trains_in_part(engine.module) else None,
            )
            if chosen.universal:
                load_carried(engine, chosen.folder)
        except pickle.UnpicklingError as error:
            raise _not_data(chosen, error) from None
    # DeepSpeed answers None, with no more than a warning, where it found nothing.
    assert path is not None, f"DeepSpeed did not load the checkpoint at step {chosen.manifest.step}"
    if chosen.universal:
        _mend(engine.basic_optimizer, groups)
    return chosen.manifest


def _not_data(chosen: Chosen, error: pickle.UnpicklingError) -> UserError:
    words = re.search(r"(?:Unsupported (?:global|operand|class)|GLOBAL)[^\n]{0,80}", str(error))
    return UserError(
        Problem(
            where=f"checkpoint at step {chosen.manifest.step}",
            message="a file in it holds more than tensors and plain values, as if forged; nothing of it "
            f"was run ({words.group(0) if words else 'refused by the safe loader'})",
            remedy=f"find out who wrote to {chosen.folder}; `launcher resume RUN --step N` goes on from an earlier one",
        )
    )


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _mend(optimiser: torch.optim.Optimizer, groups: list[dict[str, Any]]) -> None:
    """Undo what DeepSpeed's loading of a universal checkpoint does to an optimiser with several groups.

    At stage 3 it gives every group the settings of the first, so that norms decay like matrices, and every state the
    same step tensor, which then counts once for each group.
    """
    for group, settings in zip(optimiser.param_groups, groups, strict=True):
        group.update(settings)
    fused = any(group.get("fused") for group in optimiser.param_groups)
    for parameter, state in optimiser.state.items():
        if isinstance(state.get("step"), torch.Tensor):
            # A fused step reads it on the device; the file was read on the CPU.
            state["step"] = state["step"].clone().to(parameter.device if fused else "cpu")
