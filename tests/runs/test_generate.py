"""What `data generate` queues is frozen, goes on where it was, and is refused where it would be something else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.cluster.protocol import QueueState, StageJob
from launcher.errors import ClusterError, Problem, UserError
from launcher.evaluate.generation_request import GenerationRequest
from launcher.rundir import EvalDir
from launcher.runplan import RunPlan
from launcher.runs.generate import Wanted, generate
from tests.fakes import FakeQueue, planned_run


class Taking(FakeQueue):
    """Takes jobs, or refuses them."""

    def __init__(self, *answers: QueueState | None, refuses: bool = False) -> None:
        super().__init__(*answers)
        self.refuses, self.parameters = refuses, list[Mapping[str, Any]]()

    def submit_stage(
        self, plan: object, stage: StageJob, *, after: str | None = None, needs_success: bool = False
    ) -> str:
        """Note its parameters."""
        if self.refuses:
            raise ClusterError(Problem(where="Slurm", message="no"))
        self.parameters.append(stage.parameters)
        return str(len(self.parameters))


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    return RunPlan.load(planned_run(tmp_path, "cluster=slurm").plan)


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    (teacher / "config.json").write_text("{}")
    (teacher / "model.safetensors").write_text("weights")
    return Wanted(
        teacher="./teacher",
        revision=None,
        out=tmp_path / "out.jsonl",
        answers=1,
        temperature=0.0,
        max_new_tokens=None,
        batch_size=8,
        work_dir=tmp_path,
    )


def test_the_job_is_frozen_and_may_be_requeued(plan: RunPlan, wanted: Wanted, tmp_path: Path) -> None:
    cluster = Taking(QueueState.pending)
    queued = generate(plan, wanted, cluster)
    assert queued.folder.root == tmp_path / "out.jsonl.generating"
    assert queued.folder.root.stat().st_mode & 0o77 == 0
    assert (queued.folder.code / "launcher" / "node" / "generate_job.py").is_file()
    parameters = cluster.parameters[0]
    assert parameters["additional_parameters"] == {"requeue": True}
    assert parameters["job_name"] == "generate-out.jsonl"
    hostile = generate(plan, replace(wanted, out=tmp_path / "a b\n$(x).jsonl"), cluster)
    assert hostile.folder.request.is_file()
    assert cluster.parameters[1]["job_name"] == "generate-a-b-x-.jsonl"
    request = GenerationRequest.read(queued.folder)
    assert request.teacher == str(tmp_path / "teacher")
    assert not request.changed()
    (tmp_path / "train.jsonl").write_text("other rows")
    assert request.changed() == [str(tmp_path / "train.jsonl")]


def test_the_same_goes_on_and_another_is_refused(plan: RunPlan, wanted: Wanted) -> None:
    cluster = Taking(QueueState.pending, QueueState.gone)
    folder = generate(plan, wanted, cluster).folder
    (folder.root / "answers.jsonl").write_text("answered")
    folder.failure.write_text("{}")
    with pytest.raises(UserError, match="job 1 is at it"):
        generate(plan, wanted, cluster)
    generate(plan, wanted, cluster)
    assert json.loads(folder.job.read_text())["job_id"] == "2"
    assert (folder.root / "answers.jsonl").read_text() == "answered"
    assert not folder.failure.exists()
    with pytest.raises(UserError, match="asked for otherwise: temperature"):
        generate(plan, replace(wanted, temperature=0.7), cluster)
    wanted.out.write_text("all answers")
    with pytest.raises(UserError, match="is there already"):
        generate(plan, wanted, cluster)


def test_of_what_the_cluster_refuses_nothing_is_left(plan: RunPlan, wanted: Wanted) -> None:
    with pytest.raises(ClusterError):
        generate(plan, wanted, Taking(QueueState.gone, refuses=True))
    assert not EvalDir(wanted.out.with_name("out.jsonl.generating")).root.exists()
    folder = generate(plan, wanted, Taking(QueueState.gone)).folder
    with pytest.raises(ClusterError):
        generate(plan, wanted, Taking(QueueState.gone, refuses=True))
    assert folder.request.is_file()


def test_everything_that_makes_no_sense_is_told_at_once(plan: RunPlan, wanted: Wanted, tmp_path: Path) -> None:
    out = tmp_path / "nowhere" / "out.txt"
    mad = replace(wanted, teacher="./none", answers=2, batch_size=0, max_new_tokens=-1, out=out)
    with pytest.raises(UserError) as told:
        generate(plan, mad, Taking(QueueState.gone))
    wheres = [problem.where for problem in told.value.problems]
    assert wheres == ["--teacher", "--max-new-tokens", "--batch-size", "--answers", "--out", "--out"]
