"""The scripts of different sites, read by a real sbatch. Images and modules are the business of the nodes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.plan.test_sites import SITES, batch_script, planned

pytestmark = pytest.mark.slurm

PREPARATION = (
    "update NodeName=n[1-4] AvailableFeatures=h100,ib ActiveFeatures=h100,ib",
    "create ReservationName=course StartTime=now Duration=10 Users=root Nodes=n4",
)
AFTERWARDS = ("delete ReservationName=course", "update NodeName=n[1-4] AvailableFeatures= ActiveFeatures=")


def test_sbatch_takes_the_script_of_every_site(slurm_conf: str, demo: Path, work: Path) -> None:
    environment = {**os.environ, "SLURM_CONF": slurm_conf}

    def scontrol(words: str) -> None:
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        command = ["scontrol", *words.replace("Users=root", f"Users={user}").split()]
        subprocess.run(command, check=True, capture_output=True, env=environment)

    refused = {}
    for words in PREPARATION:
        scontrol(words)
    try:
        for site, overrides in SITES.items():
            text = batch_script(planned(work, *overrides))
            result = subprocess.run(
                ["sbatch", "--test-only"], input=text, capture_output=True, text=True, check=False, env=environment
            )
            if result.returncode != 0:
                refused[site] = result.stderr
    finally:
        for words in AFTERWARDS:
            scontrol(words)
    assert refused == {}
