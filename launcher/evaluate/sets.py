"""The held-out sets of a run, as its ranks open them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from launcher.data.feed.order import Int64Array
from launcher.data.feed.samples import Samples
from launcher.data.slices import read_slices
from launcher.data.tokens import AnyArray, TokenStore
from launcher.runplan import RunPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Groups:
    """Samples by what they have in common: the value of every field by which losses are told apart."""

    of: Int64Array
    """Per sample, its group, from 0."""
    members: AnyArray
    """[groups, fields]: the place of the group's value among the field's."""
    values: Mapping[str, tuple[str, ...]]
    """Field: its values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutSet:
    """One of them."""

    samples: Samples
    """Its rows; never packed where losses are told apart, since a pack mixes rows of all kinds."""
    groups: Groups | None = None
    """None where nothing is told apart."""


def open_sets(plan: RunPlan, *, mismatched: bool = False) -> dict[str, HeldOutSet]:
    """All of them, by key; where each is prepared is in LAUNCHER_KEY_TOKENS. `mismatched` as in `Samples`."""
    found = {}
    for key, spec in plan.eval_data.items():
        store = TokenStore(Path(os.environ[f"LAUNCHER_{key.upper()}_TOKENS"]))
        slices = read_slices(store, spec.slices, spec.sources)
        if slices is None:
            samples = Samples(store, packed=plan.config.data.packing, mismatched=mismatched)
            found[key] = HeldOutSet(samples=samples)
            continue
        samples = Samples(store, packed=False, mismatched=mismatched)
        # The rows of an example have the same values.
        members, of = np.unique(slices.ids[:: samples.each], axis=0, return_inverse=True)
        groups = Groups(of=of.reshape(-1).astype(np.int64), members=members, values=slices.values)
        found[key] = HeldOutSet(samples=samples, groups=groups)
    return found
