"""A profile that doctor has written of a real cluster carries a run as it is, with accounting and without."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.slurm.conftest import DEVCLUSTER
from tests.workbench import losses, make_bench

pytestmark = [pytest.mark.slurm, pytest.mark.train]


@pytest.mark.parametrize("accounting", [False, True], ids=["without accounting", "with accounting"])
def test_a_profile_that_doctor_wrote_submits_and_runs_as_it_is(accounting: bool, tmp_path: Path) -> None:
    folder = tmp_path / "dc"
    shape = ["--nodes", "2", "--gpus", "1", *(["--accounting"] if accounting else [])]
    up = subprocess.run([DEVCLUSTER, "up", *shape, "--dir", folder], capture_output=True, text=True, check=False)
    if up.returncode == 4:
        pytest.skip(up.stderr)
    assert up.returncode == 0, up.stdout + up.stderr
    (tmp_path / "bench").mkdir()
    # No network is asked for.
    away = dict.fromkeys(("WANDB_BASE_URL", "HF_ENDPOINT"), "http://127.0.0.1:1")
    bench = make_bench(tmp_path / "bench", SLURM_CONF=str(folder / "slurm.conf"), **away)
    try:
        written = json.loads(bench.run("doctor", "--write", "conf/cluster/mine.yaml", "--json").stdout)
        assert written["values"]["gpus_per_node"] == 1
        run = bench.train("cluster=mine")
        assert list(losses(run)) == list(range(1, 9))
        if not accounting:
            checked = json.loads(bench.run("doctor", "mine", "--job", "--json").stdout)
            assert checked["job"]["bandwidth_gb_s"]["16"] > 0
            assert {rank["node"] for rank in checked["job"]["ranks"]} == {"n1", "n2"}
            assert not list((bench.root / "runs").glob(".doctor*"))
    finally:
        subprocess.run([DEVCLUSTER, "down", "--dir", folder], check=True, capture_output=True)
