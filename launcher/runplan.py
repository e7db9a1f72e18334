"""The RunPlan: the frozen answer to "what exactly will happen", written once by the submitting side, read by nodes.

Owns the plan's shape and its JSON form. Knows neither how a plan is made nor what carries it out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config.schema import Config
from launcher.data.source import DataSpec
from launcher.decode import decode
from launcher.errors import NotFoundError, Problem, UserError
from launcher.expected import Expected
from launcher.plain import plain
from launcher.publish import publish_json

PLAN_VERSION = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """Ranks and where they sit."""

    nodes: int
    """Machines."""
    ranks_per_node: int
    """Ranks, and GPUs, per machine."""

    @property
    def world_size(self) -> int:
        """All ranks."""
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """global = micro × accumulation × data-parallel size, in sequences."""

    global_batch_size: int
    """Sequences per optimiser step."""
    micro_batch_size: int
    """Sequences per rank and forward pass."""
    accumulation: int
    """Forward passes per optimiser step and rank."""
    data_parallel_size: int
    """Ranks that see different sequences."""
    chosen: str
    """How the micro batch came about, in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What a GPU is expected to hold when it holds most, in GiB."""

    parameters: int
    """Model parameters, a count."""
    trained: int
    """Parameters with gradients and optimiser states, those of adapters included."""
    active: int
    """Model parameters that a token goes through; fewer than all where there are experts."""
    when: str
    """What goes on then."""
    states_gb: float
    """Parameters, gradients and optimiser states."""
    buffers_gb: float
    """ZeRO buckets, gathered layers and temporary copies."""
    activations_gb: float
    """Kept and recomputed activations, and logits."""
    available_gb: float
    """Memory of one GPU."""
    measured_gb: float | None = None
    """What a GPU of an earlier run like this one held at most, where there was one."""
    measured_by: str | None = None
    """That run's id."""

    @property
    def total_gb(self) -> float:
        """All of it together."""
        return self.states_gb + self.buffers_gb + self.activations_gb

    @property
    def held_gb(self) -> float:
        """What counts: what was measured where something was, else the estimate."""
        return self.total_gb if self.measured_gb is None else self.measured_gb

    @property
    def by(self) -> str:
        """Who measured it, for people; nothing of an estimate."""
        return "" if self.measured_by is None else f"measured by {self.measured_by}"

    @property
    def trained_share(self) -> float:
        """Share of the model's weights that need gradients of their own."""
        return min(1.0, self.trained / self.parameters)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostMemory:
    """What a rank on CPUs is expected to hold beside the interpreter and its libraries, at most, in bytes."""

    loading: float
    """Until the engine is there."""
    training: float
    """While it takes steps."""
    saving: float
    """While it writes a checkpoint that training waits for."""
    copied: float
    """While it copies what a checkpoint is written from; the copy is kept."""
    beside: float
    """While it takes steps beside such a copy."""
    resuming: float
    """While it loads a checkpoint, whatever number of ranks wrote it."""
    exporting: float
    """The process that exports."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What earlier attempts of the run took."""

    step_s: float
    """A slow optimiser step, seconds."""
    save_s: float
    """A checkpoint, from its beginning to its commit, seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lead:
    """How long before the time limit the job is told to stop."""

    seconds: int
    """Seconds."""
    needed: int
    """Seconds that a step and a checkpoint take, with everything taken twice."""
    step_s: float
    """A step, seconds."""
    save_s: float
    """A checkpoint, seconds."""
    measured: bool
    """Whether those two were measured by earlier attempts; else they are assumed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint:
    """Short hashes of what decides a run's result; a resume compares them."""

    config: str
    """The resolved config, launch settings excluded."""
    code: str
    """The launcher package's sources."""
    data: str
    """Content marks of the training data."""
    tokenizer: str
    """Tokenizer files and chat template."""
    model: str
    """Model config and weight files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What exactly will happen."""

    version: int
    """Format of this document."""
    run_id: str
    """Name of the run and of its directory."""
    run_dir: str
    """The run directory, absolute."""
    recipe: str
    """Recipe it was composed from."""
    config: Config
    """The resolved config."""
    topology: Topology
    """Ranks."""
    layout: str
    """How ZeRO's stage came about, in words."""
    batch: Batch
    """Batch arithmetic."""
    memory: Memory
    """Estimate per GPU."""
    host: HostMemory | None
    """Estimate per rank; None where ranks do not compute on CPUs."""
    train_data: DataSpec
    """Training rows and all that decides their tokens."""
    eval_data: dict[str, DataSpec]
    """The same of held-out rows, by set: `eval` where it has no name, else `eval_NAME`."""
    data_cache: str
    """Folder of tokenised data."""
    lead: Lead
    """When the job is told to stop."""
    expected: Expected
    """Time, money and disk."""
    deepspeed: dict[str, Any]
    """DeepSpeed's config, complete."""
    slurm: dict[str, Any] | None
    """submitit's Slurm parameters; None on this machine."""
    data_job: dict[str, Any] | None
    """Those of the job that tokenises first, if need be; None where the training job does it."""
    fingerprint: Fingerprint
    """What decides the result."""
    warnings: list[Problem]
    """What is likely wrong with it, and does not forbid it."""
    accepted: list[str]
    """Changes against the run's beginning that its user let through."""

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values."""
        document: dict[str, Any] = plain(self)
        return document

    def write(self, path: Path) -> None:
        """Publish the plan at `path`."""
        publish_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> RunPlan:
        """Read a stored plan; NotFoundError if there is none or another version wrote it."""
        if not path.is_file():
            raise NotFoundError(Problem(where=str(path), message="there is no plan here"))
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(Problem(where=str(path), message=f"the plan is damaged ({error})")) from error
        if document.get("version") != PLAN_VERSION:
            raise NotFoundError(
                Problem(
                    where=str(path),
                    message=f"plan format {document.get('version')!r} is not one that this version reads",
                    valid=str(PLAN_VERSION),
                    remedy="use the launcher version that submitted the run",
                )
            )
        try:
            return decode(cls, document)
        except AssertionError as error:
            remedy = "use the launcher version that submitted the run"
            raise UserError(
                Problem(where=str(path), message=f"the plan is not whole: {error}", remedy=remedy)
            ) from error
