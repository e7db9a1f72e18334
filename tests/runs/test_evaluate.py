"""Benchmarks are frozen and queued: behind the training while it lasts, at once where the checkpoint is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.checkpoint.manifest import MANIFEST_VERSION, Manifest, step_folder
from launcher.cluster.protocol import QueueState
from launcher.errors import ClusterError, DoesNotHoldError, NotFoundError, UserError
from launcher.evaluate.request import Request
from launcher.node.eval_job import main as eval_job
from launcher.publish import read_records
from launcher.rundir import RunDir
from launcher.runs.evaluate import Asked, Queued, evaluate, wait
from launcher.runs.job import write_job
from tests.fakes import FakeQueue, FakeSlurm, planned_run, slurm_job

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were installed."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)


@pytest.fixture
def run(tmp_path: Path, slurm: FakeSlurm) -> RunDir:
    """A run that waits in the queue."""
    made = planned_run(tmp_path, "cluster=devslurm", "cluster.account=acc")
    write_job(made, slurm_job("7", 1))
    slurm.state("PENDING")
    return made


def checkpoint(run: RunDir, step: int) -> None:
    folder = step_folder(run.checkpoints, step)
    folder.mkdir()
    Manifest(
        version=MANIFEST_VERSION,
        step=step,
        total_steps=step,
        tokens=1,
        attempt=1,
        world_size=1,
        zero_stage=1,
        dtype="bf16",
        data="d",
        shards=[],
    ).write(folder)


def asked(work_dir: Path, *tasks: str, step: int | None = None, limit: int | None = None) -> Asked:
    return Asked(tasks=tasks, step=step, limit=limit, few_shot=None, chat=False, batch_size=8, work_dir=work_dir)


def script(queued: Queued) -> str:
    (path,) = queued.folder.submission.glob("42_*.sh")
    return path.read_text()


def test_benchmarks_of_a_run_that_trains_wait_for_its_job(run: RunDir, tmp_path: Path) -> None:
    queued = evaluate(run, asked(tmp_path, "hellaswag", "arc_easy"))
    lines = script(queued).splitlines()
    for line in ("dependency=afterany:7", "no-requeue", "gres=gpu:1", "account=acc", "ntasks-per-node=1"):
        assert f"#SBATCH --{line}" in lines
    assert queued.after == "7"
    assert queued.folder.root == run.evals / "hellaswag-arc_easy"
    request = Request.read(queued.folder)
    assert (request.tasks, request.task_files, request.offline) == (["hellaswag", "arc_easy"], None, False)
    (event,) = read_records(run.events)
    assert (event["event"], event["job_id"]) == ("eval_submitted", "42")


def test_a_checkpoint_that_is_there_is_not_waited_for(run: RunDir, tmp_path: Path) -> None:
    checkpoint(run, 5)
    queued = evaluate(run, asked(tmp_path, "hellaswag", step=5))
    assert queued.after is None
    assert "--dependency" not in script(queued)


def test_the_job_imports_the_code_of_now_not_that_of_the_run(run: RunDir, tmp_path: Path) -> None:
    queued = evaluate(run, asked(tmp_path, "hellaswag"))
    assert f"export PYTHONPATH={queued.folder.code}" in script(queued)
    assert (queued.folder.code / "launcher" / "node" / "eval_job.py").is_file()


def test_task_files_are_copied_and_make_it_offline(run: RunDir, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("task: mine\n")
    queued = evaluate(run, asked(tmp_path, "own.yaml"))
    (tmp_path / "own.yaml").write_text("task: changed\n")
    request = Request.read(queued.folder)
    assert (request.tasks, request.offline) == (["mine"], True)
    assert request.task_files is not None
    assert (queued.folder.tasks / "own.yaml").read_text() == "task: mine\n"
    mixed = evaluate(run, asked(tmp_path, "hellaswag", "own.yaml"))
    assert Request.read(mixed.folder).tasks == ["hellaswag", "changed"]
    assert not Request.read(mixed.folder).offline


def test_two_of_one_name_lie_side_by_side(run: RunDir, tmp_path: Path) -> None:
    names = [evaluate(run, asked(tmp_path, "hellaswag")).folder.root.name for _ in range(2)]
    assert names == ["hellaswag", "hellaswag-2"]


def test_a_cluster_that_refuses_leaves_nothing(run: RunDir, tmp_path: Path, slurm: FakeSlurm) -> None:
    checkpoint(run, 5)
    slurm.refuse("sbatch: error: Invalid qos specification")
    with pytest.raises(ClusterError, match="Invalid qos"):
        evaluate(run, asked(tmp_path, "hellaswag", step=5))
    assert list(run.evals.iterdir()) == []
    assert not run.events.exists()


def test_without_a_checkpoint_or_a_job_that_will_write_one_there_is_nothing_to_ask(
    run: RunDir, tmp_path: Path, slurm: FakeSlurm
) -> None:
    slurm.state(None)
    with pytest.raises(NotFoundError, match="has no checkpoint"):
        evaluate(run, asked(tmp_path, "hellaswag"))
    checkpoint(run, 5)
    with pytest.raises(NotFoundError, match="no checkpoint at step 4"):
        evaluate(run, asked(tmp_path, "hellaswag", step=4))
    assert evaluate(run, asked(tmp_path, "hellaswag")).after is None


def test_a_head_is_not_asked(tmp_path: Path, slurm: FakeSlurm) -> None:
    rows = tmp_path / "labelled.jsonl"
    rows.write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    words = ["objective=classify", "objective.options.labels=[x,y]", f"data.train={rows}"]
    head = planned_run(tmp_path, "cluster=devslurm", *words)
    with pytest.raises(UserError, match="trains a head"):
        evaluate(head, asked(tmp_path, "hellaswag"))


def test_numbers_out_of_range_and_a_missing_harness_are_told_together(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        evaluate(run, asked(tmp_path, "hellaswag", limit=0))
    assert [problem.where for problem in caught.value.problems] == ["--tasks", "--limit"]


def test_a_run_that_did_not_complete_fails_what_was_to_follow_it(run: RunDir, tmp_path: Path) -> None:
    queued = evaluate(run, asked(tmp_path, "hellaswag"))
    with pytest.raises(SystemExit):
        eval_job(str(queued.folder.root))
    event = read_records(run.events)[-1]
    assert event["event"] == "eval_failed"
    assert "has not completed" in event["reason"]
    with pytest.raises(DoesNotHoldError, match="has not completed"):
        wait(queued, FakeQueue(QueueState.gone))


def test_a_job_that_vanishes_is_not_waited_for(run: RunDir, tmp_path: Path) -> None:
    queued = evaluate(run, asked(tmp_path, "hellaswag"))
    with pytest.raises(DoesNotHoldError, match="without a word"):
        wait(queued, FakeQueue(QueueState.pending, QueueState.gone))


def test_the_job_is_noted_in_its_folder(run: RunDir, tmp_path: Path) -> None:
    queued = evaluate(run, asked(tmp_path, "hellaswag"))
    assert json.loads(queued.folder.job.read_text())["job_id"] == "42"
