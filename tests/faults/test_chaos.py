"""Twenty trials of the chaos harness, every point of the save path among them. `make chaos` runs many more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.chaos import arena_in, campaign, possible
from tests.faults.deck import ordeals
from tests.faults.faults import FAULTS, QUICK
from tests.faults.table import table, totals

pytestmark = [pytest.mark.slurm, pytest.mark.train]

SEED = 1


def test_a_run_survives_what_is_done_to_it_bit_for_bit(tmp_path: Path) -> None:
    if (
        shutil.which("slurmctld", path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
        and os.environ.get("CI") != "true"
    ):
        pytest.skip("there is no Slurm on this machine: slurm/devcluster install")
    told: list[str] = []
    faults = possible([FAULTS[name] for name in QUICK], tmp_path, told.append)
    # One stage: the undisturbed run of each costs as much as a trial.
    todo = ordeals(faults, SEED, stages=[3])
    with arena_in(tmp_path, SEED, workers=2) as arena:
        verdicts = campaign(arena, todo, 2, told.append, lambda _: None)
    told += [table(verdicts), totals(verdicts)]
    assert len(verdicts) == len(faults), "\n".join(told)
    assert not any(verdict.problems for verdict in verdicts), "\n".join(told)
