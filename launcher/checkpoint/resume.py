"""Going on from the newest checkpoint that every rank finds good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.distributed as dist

from launcher.checkpoint.manifest import Manifest, committed_steps, fault, read_manifest, step_folder
from launcher.errors import Problem, UserError


def newest_good_all(checkpoints: Path) -> tuple[Manifest | None, list[tuple[int, str]]]:
    """The newest checkpoint whose shards are as its manifest says, and those passed over with the reason; collective.

    Every rank reads the shards that it wrote, so that the check of a checkpoint is one read of it by all together.
    """
    passed: list[tuple[int, str]] = []
    for step in reversed(_agreed_steps(checkpoints)):
        folder = step_folder(checkpoints, step)
        manifest = read_manifest(folder)
        complaints: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(complaints, _complaint(folder, manifest))
        found = next((complaint for complaint in complaints if complaint is not None), None)
        if found is None:
            return manifest, passed
        passed.append((step, found))
    return None, passed


def _agreed_steps(checkpoints: Path) -> list[int]:
    """What rank 0 sees: a shared file system may show the ranks different moments."""
    steps: list[Any] = [committed_steps(checkpoints) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(steps, src=0)
    agreed: list[int] = steps[0]
    return agreed


def _complaint(folder: Path, manifest: Manifest | None) -> str | None:
    if manifest is None:
        return "its manifest cannot be read"
    mine = [shard for shard in manifest.shards if shard.rank % dist.get_world_size() == dist.get_rank()]
    faults = (fault(folder, shard, content=True) for shard in mine)
    return next((found for found in faults if found is not None), None)


def require_same_shape(manifest: Manifest, *, world_size: int, stage: int, data: str) -> None:
    """UserError when the checkpoint was written by another number of ranks, another ZeRO stage or other data."""
    problems = [
        Problem(
            where=f"checkpoint at step {manifest.step}", message=f"{name} was {before}, and is {now}", remedy=remedy
        )
        for name, before, now, remedy in (
            ("the number of ranks", manifest.world_size, world_size, "resume with the same nodes and GPUs"),
            ("the ZeRO stage", manifest.zero_stage, stage, f"resume with zero.stage={manifest.zero_stage}"),
            ("the tokenised data", manifest.data[:12], data[:12], "restore the data files as they were"),
        )
        if before != now
    ]
    if problems:
        raise UserError(*problems)


def load_all(engine: Any, checkpoints: Path, manifest: Manifest) -> None:
    """Load model and optimiser states into a fresh engine; collective."""
    path, _ = engine.load_checkpoint(
        str(checkpoints), tag=step_folder(checkpoints, manifest.step).name, load_lr_scheduler_states=False
    )
    # DeepSpeed answers None, with no more than a warning, where it found nothing.
    assert path is not None, f"DeepSpeed did not load the checkpoint at step {manifest.step}"
