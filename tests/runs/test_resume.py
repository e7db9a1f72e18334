"""What a resume may change, decided before anything is queued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from launcher.config.search import search_path
from launcher.config.survival import Action
from launcher.errors import UserError
from launcher.failures import FailureClass
from launcher.plan.build import Request, plan_request
from launcher.publish import append_record
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.drift import noted, refuse_changes
from launcher.runs.events import Event, record
from launcher.runs.freeze import freeze
from launcher.runs.job import claimed_submission
from launcher.runs.outcome import Ending, Outcome
from launcher.runs.resume import replan


@pytest.fixture
def old(demo: Path, work: Path) -> RunPlan:
    """A run on four ranks."""
    overrides = ("cluster.gpus_per_node=4", "train.global_batch_size=8", "train.micro_batch_size=2")
    return plan_request(Request(recipe="demo", overrides=overrides, config_dir=None, work_dir=work))


def resumed(old: RunPlan, *overrides: str) -> RunPlan:
    work = Path.cwd()
    new = replan(old, overrides, search_path(None, work), work)
    refuse_changes(old, new, accept=False)
    return new


@pytest.mark.parametrize(("ranks", "accumulation"), [(2, 2), (1, 4)])
def test_fewer_ranks_take_the_same_global_batch_in_more_parts(old: RunPlan, ranks: int, accumulation: int) -> None:
    new = resumed(old, f"cluster.gpus_per_node={ranks}")
    assert new.batch.global_batch_size == old.batch.global_batch_size
    assert (new.batch.micro_batch_size, new.batch.accumulation) == (2, accumulation)
    assert new.deepspeed["gradient_accumulation_steps"] == accumulation


@pytest.mark.parametrize("ranks", [3, 8])
def test_ranks_that_do_not_fit_the_batch_are_refused_with_what_a_resume_can_change(old: RunPlan, ranks: int) -> None:
    with pytest.raises(UserError) as caught:
        resumed(old, f"cluster.gpus_per_node={ranks}")
    (problem,) = caught.value.problems
    assert "a resume keeps it" in problem.remedy
    assert "train.micro_batch_size=auto" in problem.remedy
    assert "write train.global_batch_size" not in str(problem)
    if ranks == 8:
        new = resumed(old, f"cluster.gpus_per_node={ranks}", "train.micro_batch_size=auto")
        assert (new.batch.micro_batch_size, new.batch.accumulation) == (1, 1)


def test_another_zero_stage_is_refused_with_the_way_round(old: RunPlan) -> None:
    stage = 3 - old.config.zero.stage
    with pytest.raises(UserError) as caught:
        resumed(old, f"zero.stage={stage}")
    (problem,) = caught.value.problems
    assert problem.where == "zero.stage"
    assert f"launcher export {old.run_id}" in problem.remedy
    assert f"launcher submit demo model.path={old.run_dir}/export zero.stage={stage}" in problem.remedy


def test_other_data_is_refused_with_what_it_was_and_goes_on_where_it_is_accepted(old: RunPlan) -> None:
    new = replace(old, fingerprint=replace(old.fingerprint, data="other"))
    with pytest.raises(UserError) as caught:
        refuse_changes(old, new, accept=False)
    assert f"{old.fingerprint.data} → other" in str(caught.value)
    assert "--accept-changes" in str(caught.value)
    assert refuse_changes(old, new, accept=True) == [f"fingerprint of the data: {old.fingerprint.data} → other"]


@pytest.mark.parametrize("override", ["zero.stage=1", "precision=bf16", "optim=lion", "optim.ema_decay=0.9"])
def test_what_no_checkpoint_can_be_carried_over_to_is_refused_whoever_accepts_it(old: RunPlan, override: str) -> None:
    new = replan(old, [override], search_path(None, Path.cwd()), Path.cwd())
    with pytest.raises(UserError):
        refuse_changes(old, new, accept=True)


@pytest.mark.parametrize("key", ["adapter", "model.freeze"])
def test_other_weights_than_those_that_were_trained_are_refused_whoever_accepts_it(old: RunPlan, key: str) -> None:
    config = old.config
    other = {
        "adapter": replace(config, adapter=replace(config.adapter, r=99)),
        "model.freeze": replace(config, model=replace(config.model, freeze=["embed"])),
    }
    with pytest.raises(UserError) as caught:
        refuse_changes(old, replace(old, config=other[key]), accept=True)
    assert [problem.where for problem in caught.value.problems] == [key]


def test_other_software_is_noted() -> None:
    fingerprints = SimpleNamespace(fingerprint=SimpleNamespace(code="a"))
    before = {"python": "3.11.2", "packages": {"torch": "2.12.0", "tqdm": "1"}}
    after = {"python": "3.11.2", "packages": {"torch": "2.13.0", "tqdm": "2"}}
    told = noted(fingerprints, fingerprints, before, after)  # type: ignore[arg-type]
    assert told == ["torch: 2.12.0 → 2.13.0"]


def failed_on(run: RunDir, node: str) -> None:
    run.attempt(1).root.mkdir(parents=True)
    Outcome(
        attempt=1,
        job_id="1",
        state=Ending.failed,
        failure=FailureClass.gpu_error,
        reason="ECC",
        node=node,
        rank=0,
        exit_code=1,
        step=None,
        started=0,
        ended=1,
        action=Action.requeue_elsewhere,
        advice="",
    ).write(run.attempt(1))


def test_nodes_that_failed_the_run_are_avoided_unless_the_user_says_which(old: RunPlan) -> None:
    failed_on(RunDir(Path(old.run_dir)), "n7")
    slurm = ["cluster=slurm", "cluster.gpus_per_node=4"]
    assert resumed(old, *slurm).config.cluster.exclude == "n7"
    assert resumed(old, *slurm, "cluster.exclude=n1").config.cluster.exclude == "n1"


def test_the_lead_is_planned_from_what_was_measured(old: RunPlan) -> None:
    run = RunDir(Path(old.run_dir))
    assert not resumed(old).lead.measured
    run.root.mkdir(parents=True)
    record(run, Event.checkpoint, 1, step=5, seconds=40.0, stalled_s=1.0, size=1)
    append_record(run.metrics, {"step": 5, "loss": 1.0, "step_time_s": 10.0, "attempt": 1})
    lead = resumed(old).lead
    assert (lead.measured, lead.step_s, lead.save_s, lead.needed) == (True, 10.0, 40.0, 160)


def test_of_two_that_resume_at_once_one_is_told_so(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.submissions.mkdir()
    with claimed_submission(run, 2), pytest.raises(UserError, match="somebody else"), claimed_submission(run, 2):
        pass
    with pytest.raises(RuntimeError), claimed_submission(run, 3):
        raise RuntimeError
    assert [folder.name for folder in run.submissions.iterdir()] == ["0002"]


def test_another_file_that_judges_is_refused_and_the_runs_own_copy_stays(demo: Path, work: Path) -> None:
    file = work / "mine.py"
    file.write_text("def reward(*texts): return 1")
    overrides = ("objective=grpo", "objective.options.reward=mine.py", "objective.options.max_new_tokens=16")
    plan = plan_request(Request(recipe="demo", overrides=overrides, config_dir=None, work_dir=work))
    run = freeze(plan, ["demo", *overrides])
    resumed(plan)
    file.write_text("def reward(*texts): return 2")
    with pytest.raises(UserError, match=r"text of objective\.options\.reward"):
        resumed(plan)
    assert run.reward.read_text() == "def reward(*texts): return 1"
