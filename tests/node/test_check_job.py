"""The ranks of doctor's job, as real processes that meet over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import launcher
from launcher.config.compose import compose_profile
from launcher.config.search import search_path
from launcher.node.rendezvous import meeting_point
from launcher.plain import plain
from launcher.publish import publish_json
from launcher.rundir import CheckDir
from launcher.runs.check_job import judge


def test_two_ranks_meet_measure_and_leave_one_answer(tmp_path: Path) -> None:
    cluster, health = compose_profile(["cluster=devslurm"], search_path(None, tmp_path))
    folder = CheckDir(tmp_path)
    publish_json(folder.request, {"accelerator": "cpu", "health": plain(health)})
    command = [sys.executable, "-c", "import sys; from launcher.node.check_job import main; main(sys.argv[1])"]
    shared = {**os.environ, **meeting_point(os.getpid()), "PYTHONPATH": str(Path(launcher.__file__).parents[1])}
    shared |= {"SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "2", "SLURM_LOCALID": "0", "OMP_NUM_THREADS": "1"}
    shared |= dict.fromkeys(("WANDB_BASE_URL", "HF_ENDPOINT"), "http://127.0.0.1:1")
    shared.pop("LAUNCHER_RANK", None)
    ranks = [
        subprocess.Popen(
            [*command, str(tmp_path)],
            env={**shared, "SLURM_PROCID": str(rank), "SLURMD_NODENAME": f"n{rank + 1}"},
        )
        for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    document = json.loads(folder.results.read_text())
    assert document["backend"] == "gloo"
    assert all(speed > 0 for speed in document["bandwidth_gb_s"].values())
    assert [rank["node"] for rank in document["ranks"]] == ["n1", "n2"]
    text = "\n".join(finding.what for finding in judge(cluster, document))
    assert "2 ranks on n1, n2 met over gloo" in text
