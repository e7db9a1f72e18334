"""Where a model comes from: what an export says of itself, and what a run began with. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import launcher
from launcher.checkpoint.manifest import MANIFEST, Manifest, step_folder
from launcher.config.schema import Dtype, Init, ModelConfig
from launcher.decode import decode
from launcher.digest import file_sha256
from launcher.plain import plain
from launcher.publish import publish_json
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

PROVENANCE = "export.json"
"""Marks a folder as an export of ours: it may be replaced by a later one, anything else may not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parent:
    """The run whose export another run began with."""

    run_id: str
    """Name of the run."""
    step: int
    """Optimiser steps that the exported checkpoint had."""
    checkpoint: str
    """Hash of that checkpoint's manifest, and so of all its files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """lineage.json: what a run's model was before the first step. Written once; a resume does not look again."""

    base: str
    """`model.path`, or `none` for random weights."""
    revision: str | None
    """Hub revision."""
    parent: Parent | None
    """None where the base is no export."""

    def words(self) -> dict[str, str]:
        """As manifests carry it."""
        parent = self.parent
        about = {"base": self.base} | ({} if self.revision is None else {"revision": self.revision})
        if parent is not None:
            about |= {"parent_run": parent.run_id, "parent_step": str(parent.step), "parent": parent.checkpoint}
        return about


def lineage_of(model: ModelConfig) -> Lineage:
    """Of a run that is about to begin."""
    pretrained = model.init is Init.pretrained
    said = read_provenance(Path(model.path)) if pretrained else None
    parent = None
    if said is not None:
        parent = Parent(run_id=str(said["run_id"]), step=int(said["step"]), checkpoint=str(said.get("checkpoint", "")))
    return Lineage(base=model.path if pretrained else "none", revision=model.revision, parent=parent)


def write_lineage(run: RunDir, lineage: Lineage) -> None:
    """Publish it in the run directory."""
    publish_json(run.lineage, plain(lineage))


def read_lineage(run: RunDir) -> Lineage | None:
    """What the run began with; None where it does not say: it is older than that, or the file is damaged."""
    try:
        return decode(Lineage, json.loads(run.lineage.read_text(encoding="utf-8")))
    except (OSError, ValueError, AssertionError):
        return None


def checkpoint_digest(checkpoints: Path, step: int) -> str:
    """Short hash of a checkpoint's manifest, which holds the hashes of its files."""
    return file_sha256(step_folder(checkpoints, step) / MANIFEST)[:16]


def provenance(
    run: RunDir, plan: RunPlan, manifest: Manifest, dtype: Dtype, *, average: bool = False
) -> dict[str, Any]:
    """What an export says of itself, for programs; its model card says it to people."""
    return {
        "launcher": launcher.__version__,
        "run_id": plan.run_id,
        "step": manifest.step,
        "dtype": dtype.value,
        "ema_decay": plan.config.optim.ema_decay if average else None,
        "objective": plan.config.objective.name,
        "checkpoint": checkpoint_digest(run.checkpoints, manifest.step),
        "data": manifest.data,
        "fingerprint": manifest.fingerprint,
        "lineage": manifest.lineage,
    }


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """What the export in `folder` says of itself; None if it is not one of ours."""
    try:
        said = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return dict(said) if {"run_id", "step"} <= said.keys() else None
    except (OSError, ValueError, AttributeError):
        return None
