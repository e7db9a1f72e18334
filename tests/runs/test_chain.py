"""What follows training: queued with it or not at all, told with it, withdrawn and queued again with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cluster.protocol import QueueState
from launcher.errors import ClusterError, UserError
from launcher.evaluate.request import Request as Asked
from launcher.evaluate.task_names import unknown
from launcher.node.eval_job import main as eval_job
from launcher.node.export_job import main as export_job
from launcher.plan.build import Request, plan_request
from launcher.publish import publish_json, read_records
from launcher.rundir import EvalDir, StageDir
from launcher.runplan import RunPlan
from launcher.runs.cancel import cancel
from launcher.runs.launch import Launched, launch
from launcher.runs.outcome import Ending
from launcher.runs.resume import resume
from launcher.runs.stages import Link, read_links, write_links
from launcher.runs.status import status
from launcher.runs.why import why
from tests.fakes import FakeQueue, FakeSlurm, MadeRun, slurm_job

pytestmark = pytest.mark.slow

WORDS = ["cluster=devslurm", "cluster.export_job.partition=cpus", "then.tasks=[mine.yaml]"]
MANY = 99


@pytest.fixture
def plan(demo: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> RunPlan:
    """A chain with data to prepare and a task of its own."""
    monkeypatch.setattr("launcher.plan.then.installed", lambda: True)
    (work / "mine.yaml").write_text("task: mine\n")
    return plan_request(Request(recipe="demo", overrides=WORDS, config_dir=None, work_dir=work))


@pytest.fixture
def launched(plan: RunPlan, slurm: FakeSlurm) -> Launched:
    slurm.refuse_after(MANY, "")
    return launch(plan, ["demo", *WORDS])


def script(launched: Launched, pattern: str) -> list[str]:
    (path,) = launched.run.root.glob(pattern)
    return path.read_text().splitlines()


def test_each_stage_is_queued_behind_the_one_before_in_a_shape_of_its_own(launched: Launched) -> None:
    assert (launched.data_job_id, launched.job_id) == ("42", "43")
    export, asked = script(launched, "submit/0001/export/submit/44_*.sh"), script(launched, "evals/mine/submit/45_*.sh")
    # However training ended: only the run itself knows whether it has completed.
    for line in ("dependency=afterany:43", "partition=cpus", "cpus-per-task=1", "mem=3G", "requeue"):
        assert f"#SBATCH --{line}" in export
    assert not [line for line in export if "gres" in line]
    for line in ("dependency=afterok:44", "kill-on-invalid-dep=yes", "gres=gpu:1"):
        assert f"#SBATCH --{line}" in asked
    links = read_links(launched.run, 1)
    assert [(link.name, link.job.job_id) for link in links] == [("export", "44"), ("eval", "45")]
    request = Asked.read(EvalDir(Path(links[1].folder)))
    assert (request.export, request.tasks, request.after) == (links[0].folder, ["mine"], None)
    assert (launched.run.evals / "mine" / "tasks" / "mine.yaml").is_file()


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_where_one_stage_is_refused_those_before_it_are_withdrawn(plan: RunPlan, slurm: FakeSlurm, taken: int) -> None:
    slurm.refuse_after(taken, "sbatch: error: Batch job submission failed: Invalid qos specification")
    with pytest.raises(ClusterError, match="Invalid qos"):
        launch(plan, ["demo", *WORDS])
    assert slurm.calls("scancel") == [str(41 + number) for number in range(taken, 0, -1)]
    assert not Path(plan.run_dir).exists()


def test_jobs_that_cannot_be_withdrawn_are_named(plan: RunPlan, slurm: FakeSlurm) -> None:
    slurm.refuse_after(2, "sbatch: error: Invalid qos specification")
    slurm._write("scancel", "echo 'scancel: error: no' >&2; exit 1")
    with pytest.raises(ClusterError, match="scancel 43 42"):
        launch(plan, ["demo", *WORDS])


def test_tasks_that_no_job_could_ask_are_told_before_anything_is_queued(plan: RunPlan, work: Path) -> None:
    (work / "other.yaml").write_text("unsafe_code: true\n")
    overrides = ["then.tasks=[mine.yaml,other.yaml,none.yaml]", "then.limit=0"]
    with pytest.raises(UserError) as caught:
        plan_request(Request(recipe="demo", overrides=overrides, config_dir=None, work_dir=work))
    told = str(caught.value)
    assert "then.limit" in told
    assert "other.yaml" in told


def test_a_name_that_the_harness_does_not_know_is_found_out() -> None:
    wrong, known = unknown(["hellaswag", "hellaswagg"])
    assert wrong == ["hellaswagg"]
    assert "hellaswag" in known
    assert unknown(["hellaswag", "mmlu"]) == ([], ())


def test_what_follows_does_not_change_what_the_run_is(plan: RunPlan, work: Path) -> None:
    alone = plan_request(Request(recipe="demo", overrides=WORDS[:1], config_dir=None, work_dir=work))
    assert alone.fingerprint == plan.fingerprint


@pytest.fixture
def made(tmp_path: Path) -> MadeRun:
    """A run whose export and benchmarks wait behind it, as jobs 50 and 51."""
    made = MadeRun(tmp_path)
    links = []
    for name, job_id in (("export", "50"), ("eval", "51")):
        folder = made.run.submissions / "0001" / name
        folder.mkdir()
        links.append(Link(name=name, job=slurm_job(job_id, 1), folder=str(folder)))
    write_links(made.run, links)
    return made


def folder(made: MadeRun, name: str) -> StageDir:
    return StageDir(made.run.submissions / "0001" / name)


def states(made: MadeRun, *queue: QueueState) -> dict[str, str]:
    """The state of each stage, where the queue answers so."""
    return {stage.name: stage.state.value for stage in status(made.run, FakeQueue(*queue).state).stages}


def test_a_stage_whose_turn_has_not_come_is_not_asked_about(made: MadeRun) -> None:
    made.begin(step=0)
    queue = FakeQueue(QueueState.running)
    told = status(made.run, queue.state).stages
    assert [(stage.name, stage.state.value) for stage in told] == [
        ("train", "RUNNING"),
        ("export", "QUEUED"),
        ("eval", "QUEUED"),
    ]
    assert told[1].reason == "after job 42 (train)"
    assert queue.asked == 1


def test_each_stage_stands_where_its_files_and_the_queue_say(made: MadeRun) -> None:
    made.begin(step=0)
    made.end(Ending.completed)
    assert states(made, QueueState.running) == {"train": "COMPLETED", "export": "RUNNING", "eval": "QUEUED"}
    assert states(made, QueueState.gone) == {"train": "COMPLETED", "export": "FAILED", "eval": "SKIPPED"}
    publish_json(folder(made, "export").results, {})
    assert states(made, QueueState.pending) == {"train": "COMPLETED", "export": "COMPLETED", "eval": "QUEUED"}
    publish_json(folder(made, "eval").failure, {"reason": "no such task"})
    assert states(made, QueueState.gone) == {"train": "COMPLETED", "export": "COMPLETED", "eval": "FAILED"}
    assert why(made.run, FakeQueue(QueueState.gone).state).follows == "`launcher resume demo-1` queues eval again"


def test_what_follows_an_earlier_submission_follows_no_more(made: MadeRun) -> None:
    made.submit()
    assert states(made, QueueState.pending) == {}


def test_cancelling_a_run_withdraws_what_was_to_follow(made: MadeRun) -> None:
    made.begin(step=0)
    queue = FakeQueue(QueueState.running)
    assert "export and eval were withdrawn" in cancel(made.run, queue)
    assert (queue.stopped, queue.withdrawn) == (["42"], ["51", "50"])
    made.end(Ending.stopped)
    assert states(made, QueueState.gone) == {"train": "CANCELLED", "export": "CANCELLED", "eval": "CANCELLED"}


def test_what_follows_can_be_cancelled_when_training_is_done(made: MadeRun) -> None:
    made.begin(step=0)
    made.end(Ending.completed)
    publish_json(folder(made, "export").results, {})
    queue = FakeQueue(QueueState.running)
    assert cancel(made.run, queue) == "eval was withdrawn; the training has ended already"
    assert (queue.stopped, queue.withdrawn) == ([], ["51"])
    with pytest.raises(UserError, match="COMPLETED already"):
        cancel(made.run, FakeQueue(QueueState.gone))


def test_the_export_of_a_run_that_failed_says_why_it_is_none(made: MadeRun) -> None:
    made.begin(step=0)
    made.end(Ending.failed, "CUDA out of memory")
    with pytest.raises(SystemExit) as left:
        export_job(str(folder(made, "export").root))
    # By which Slurm knows that benchmarks must not start.
    assert left.value.code == 2
    event = read_records(made.run.events)[-1]
    assert (event["event"], "CUDA out of memory" in event["reason"]) == ("export_failed", True)
    assert states(made, QueueState.gone) == {"train": "FAILED", "export": "SKIPPED", "eval": "SKIPPED"}


def test_an_export_that_was_overtaken_by_a_resume_leaves_the_run_alone(made: MadeRun) -> None:
    made.submit()
    with pytest.raises(SystemExit):
        export_job(str(folder(made, "export").root))
    assert "submitted again since (2)" in folder(made, "export").failure.read_text()


def test_benchmarks_of_an_export_that_came_to_nothing_say_so(launched: Launched) -> None:
    export, asked = (Path(link.folder) for link in launched.links)
    publish_json(StageDir(export).failure, {"reason": "the disk is full"})
    with pytest.raises(SystemExit):
        eval_job(str(asked))
    assert "came to nothing (the disk is full)" in StageDir(asked).failure.read_text()


def completed(launched: Launched, plan: RunPlan, root: Path) -> None:
    """As if the training of the run had done all its steps."""
    made = MadeRun(root, submitted=False)
    made.run, made.submissions = launched.run, 1
    made.begin(step=0)
    made.end(Ending.completed)
    made.checkpoint(plan.config.train.max_steps or 0)


def again(launched: Launched, work: Path, *overrides: str) -> Launched:
    return resume(launched.run, overrides, step=None, work_dir=work, config_dir=None)


def test_a_resume_queues_only_what_has_not_been_done(
    launched: Launched, plan: RunPlan, slurm: FakeSlurm, work: Path, tmp_path: Path
) -> None:
    completed(launched, plan, tmp_path)
    with pytest.raises(UserError, match="will follow by themselves"):
        again(launched, work)
    slurm.state(None)
    export, asked = (StageDir(Path(link.folder)) for link in launched.links)
    publish_json(export.results, {"step": 1})
    publish_json(asked.failure, {"reason": "no such task"})
    second = again(launched, work)
    (link,) = second.links
    assert (second.job_id, link.name, link.job.job_id) == ("43", "eval", "46")
    assert "--dependency" not in "\n".join(script(second, "evals/mine-2/submit/46_*.sh"))
    assert Asked.read(EvalDir(Path(link.folder))).export == str(export.root)
    assert [stage.name for stage in status(launched.run).stages] == ["prepare", "train", "export", "eval"]


def test_a_resume_of_a_completed_run_can_ask_for_more_to_follow(
    launched: Launched, plan: RunPlan, slurm: FakeSlurm, work: Path, tmp_path: Path
) -> None:
    completed(launched, plan, tmp_path)
    slurm.state(None)
    for link in launched.links:
        publish_json(StageDir(Path(link.folder)).results, {"step": 1})
    with pytest.raises(UserError, match="nothing is left to do"):
        again(launched, work)
    assert [link.name for link in again(launched, work, "then.few_shot=5").links] == ["eval"]


def test_a_resume_of_a_failed_run_queues_all_of_it_again(launched: Launched, slurm: FakeSlurm, work: Path) -> None:
    slurm.state(None)
    second = again(launched, work)
    assert [link.job.submission for link in second.links] == [2, 2]
    assert (launched.run.submissions / "0002" / "export").is_dir()
    assert read_links(launched.run, 2) == second.links


def test_a_resume_that_is_refused_leaves_the_chain_as_it_was(launched: Launched, slurm: FakeSlurm, work: Path) -> None:
    slurm.state(None)
    before = sorted(launched.run.evals.iterdir())
    slurm.refuse_after(6, "sbatch: error: Invalid qos specification")
    with pytest.raises(ClusterError):
        again(launched, work)
    assert read_links(launched.run, 1) == launched.links
    assert sorted(launched.run.evals.iterdir()) == before
    assert not (launched.run.submissions / "0002").exists()
