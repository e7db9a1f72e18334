"""Which checkpoints stay, and the removal of the others. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.checkpoint.commit import remove_folder
from launcher.checkpoint.copies import prune_universal
from launcher.checkpoint.manifest import committed_steps, fault, read_manifest, step_folder
from launcher.config.schema import Config


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What stays; a checkpoint goes only if nothing here keeps it."""

    last: int | None
    """The newest so many; None keeps all."""
    every: int | None = None
    """Steps that are a multiple of it."""
    best: int | None = None
    """So many with the best held-out results …"""
    best_by: str = "eval_loss"
    """… by this measure."""


def policy_for(config: Config) -> Policy:
    """What a run's config keeps; one that may stop early keeps its best."""
    kept = config.checkpoint
    best = kept.keep_best if config.train.patience is None else max(1, kept.keep_best or 0)
    return Policy(last=kept.keep_last, every=kept.keep_every, best=best, best_by=kept.best_by)


def to_remove(steps: Sequence[int], policy: Policy, costs: Mapping[int, float]) -> list[int]:
    """Those of `steps` that go, ascending. `costs` are held-out results by step; the newest step always stays."""
    if policy.last is None:
        return []
    kept = set(sorted(steps)[-max(1, policy.last) :])
    if policy.every is not None:
        kept |= {step for step in steps if step % policy.every == 0}
    if policy.best is not None:
        # Of equals the later: it has seen more.
        ranked = sorted((step for step in steps if step in costs), key=lambda step: (costs[step], -step))
        kept |= set(ranked[: policy.best])
    return sorted(set(steps) - kept)


_LESS_IS_BETTER = ("loss", "loss_change", "perplexity", "error")
"""How such measures end; what comes before may be the name of a set."""


class HeldOut:
    """Costs in metrics.jsonl: what a held-out measure says, as a number that is better the lower it is.

    Each look reads what was appended since the one before.
    """

    def __init__(self, metrics: Path, metric: str) -> None:
        self._metrics, self._metric = metrics, metric
        self._offset = 0
        self._costs: dict[int, float] = {}

    @staticmethod
    def cost(metric: str, value: float) -> float:
        """The cost of a value of that measure, and the value of a cost: losses and errors as they are, others less."""
        return value if metric.endswith(_LESS_IS_BETTER) else -value

    def read(self) -> Mapping[int, float]:
        """Cost by step; a step that was evaluated twice counts as it was last."""
        try:
            with self._metrics.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    # Most lines are of steps, and not worth decoding.
                    if b'"eval_loss"' in line:
                        self._take(line)
        except FileNotFoundError:
            pass
        return self._costs

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return
        step, value = record.get("step"), record.get(self._metric)
        if isinstance(step, int):
            self._costs.pop(step, None)
            if isinstance(value, int | float):
                self._costs[step] = self.cost(self._metric, float(value))


def best_step(steps: Sequence[int], costs: Mapping[int, float]) -> int | None:
    """The best of `steps`, of equals the later; None where none was evaluated."""
    return min((step for step in steps if step in costs), key=lambda step: (costs[step], -step), default=None)


def prune(checkpoints: Path, policy: Policy, costs: Mapping[int, float]) -> list[int]:
    """Remove what the policy does not keep; the steps removed. Never the newest one that is whole."""
    steps = committed_steps(checkpoints)
    going = to_remove(steps, policy, costs)
    if going:
        good = newest_whole(checkpoints, steps)
        going = [step for step in going if step != good]
    for step in going:
        remove_folder(step_folder(checkpoints, step))
    prune_universal(checkpoints, committed_steps(checkpoints))
    return going


def newest_whole(checkpoints: Path, steps: Sequence[int]) -> int | None:
    """The newest of `steps` whose files all have the sizes that the manifest says."""
    return next((step for step in sorted(steps, reverse=True) if _is_whole(step_folder(checkpoints, step))), None)


def _is_whole(folder: Path) -> bool:
    manifest = read_manifest(folder)
    return manifest is not None and all(fault(folder, shard, content=False) is None for shard in manifest.shards)
