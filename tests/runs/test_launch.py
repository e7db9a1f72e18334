"""Submission: data that is not prepared yet gets a job of its own, and training waits for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli.main import main
from launcher.data.key import cache_key
from launcher.data.tokens import META_FILE
from launcher.errors import ClusterError
from launcher.plan.build import Request, plan_request
from launcher.runplan import RunPlan
from launcher.runs.launch import Launched, launch
from tests.fakes import FakeSlurm

WORDS = ["cluster=devslurm", "cluster.data_job.partition=cpus"]


@pytest.fixture
def plan(demo: Path, work: Path) -> RunPlan:
    return plan_request(Request(recipe="demo", overrides=WORDS, config_dir=None, work_dir=work))


def script(launched: Launched, pattern: str) -> str:
    (path,) = launched.run.submissions.glob(pattern)
    return path.read_text()


def test_unprepared_data_gets_a_job_that_training_waits_for(plan: RunPlan, slurm: FakeSlurm) -> None:
    launched = launch(plan, ["demo", *WORDS])
    assert len(slurm.calls("sbatch")) == 2
    first, second = script(launched, "0001/data/42_*.sh"), script(launched, "0001/42_*.sh")
    for line in ("--partition=cpus", "--cpus-per-task=2", "--mem=4G", f"--job-name={plan.run_id}-data"):
        assert f"#SBATCH {line}" in first
    assert "gres" not in first
    assert f"#SBATCH --dependency=afterok:{launched.data_job_id}" in second
    assert "#SBATCH --kill-on-invalid-dep=yes" in second
    assert json.loads(launched.run.job.read_text())["data_job_id"] == launched.data_job_id


def test_prepared_data_gets_none(plan: RunPlan, slurm: FakeSlurm) -> None:
    for spec in (plan.train_data, *plan.eval_data.values()):
        folder = Path(plan.data_cache) / cache_key(spec)
        folder.mkdir(parents=True)
        (folder / META_FILE).write_text("{}")
    launched = launch(plan, ["demo", *WORDS])
    assert launched.data_job_id is None
    assert len(slurm.calls("sbatch")) == 1
    assert "--dependency" not in script(launched, "0001/42_*.sh")


def test_a_data_job_whose_training_is_refused_is_withdrawn(plan: RunPlan, slurm: FakeSlurm) -> None:
    slurm.refuse_after(1, "sbatch: error: Batch job submission failed: Invalid qos specification")
    with pytest.raises(ClusterError, match="Invalid qos"):
        launch(plan, ["demo", *WORDS])
    assert slurm.calls("scancel") == ["42"]
    assert not Path(plan.run_dir).exists()


def test_what_waits_for_what_is_printed(demo: Path, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "demo", *WORDS]) == 0
    assert "(after job 42, which prepares its data)" in capsys.readouterr().out
