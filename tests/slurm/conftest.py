"""One real cluster of four nodes for the tests that submit to it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workbench import Bench, make_bench

DEVCLUSTER = Path(__file__).resolve().parents[2] / "slurm" / "devcluster"


@pytest.fixture(scope="session")
def slurm_conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("cluster") / "dc"
    up = subprocess.run(
        [DEVCLUSTER, "up", "--nodes", "4", "--gpus", "8", "--dir", folder], capture_output=True, text=True, check=False
    )
    if up.returncode == 4 and os.environ.get("CI") != "true":
        pytest.skip(up.stderr)
    assert up.returncode == 0, up.stdout + up.stderr
    yield str(folder / "slurm.conf")
    subprocess.run([DEVCLUSTER, "down", "--dir", folder], check=True, capture_output=True)


@pytest.fixture(scope="session")
def slurm_bench(tmp_path_factory: pytest.TempPathFactory, slurm_conf: str) -> Bench:
    return make_bench(tmp_path_factory.mktemp("slurm-bench"), SLURM_CONF=slurm_conf)


@pytest.fixture
def kill_slurmd(slurm_conf: str) -> Iterator[Callable[[str], None]]:
    """Kill a node's slurmd as a crash would; all are back afterwards."""
    folder = Path(slurm_conf).parent

    def kill(node: str) -> None:
        os.kill(int((folder / "run" / f"slurmd-{node}.pid").read_text()), signal.SIGKILL)

    yield kill
    subprocess.run([DEVCLUSTER, "up", "--nodes", "4", "--gpus", "8", "--dir", folder], check=True, capture_output=True)
