"""A run with a teacher is planned with it: its files, its tokens and its memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli.page import page
from launcher.config.schema import ShapeConfig
from launcher.errors import UserError
from launcher.models.shape import model_shape
from launcher.models.teacher import teacher_folder
from launcher.plan.build import Request, plan_request
from launcher.plan.memory import plan_memory
from launcher.runplan import RunPlan
from tests.fakes import write_tiny_model


def planned(work: Path, *overrides: str) -> RunPlan:
    return plan_request(Request(recipe="demo", overrides=overrides, config_dir=None, work_dir=work))


@pytest.fixture
def teacher(work: Path) -> Path:
    """A model of the same shape and tokens, with a weight file."""
    folder = write_tiny_model(work / "teacher")
    (folder / "model.safetensors").write_text("weights")
    return folder


def test_its_folder_is_the_same_on_every_node(demo: Path, work: Path, teacher: Path) -> None:
    plan = planned(work, "objective=distill", "objective.options.teacher=./teacher")
    assert plan.config.objective.options["teacher"] == str(teacher)


def test_its_weights_are_counted_and_partitioned_at_stage_3_only(demo: Path, work: Path, teacher: Path) -> None:
    for stage, share in ((2, 1), (3, 2)):
        # Buckets of full size would be all there is of a model this small.
        size = (f"zero.stage={stage}", "zero.bucket_elements=1000", "train.micro_batch_size=2")
        alone = planned(work, *size).memory
        together = planned(work, *size, "objective=distill", "objective.options.teacher=./teacher").memory
        close = planned(work, *size, "objective.options.kl=0.1").memory
        expected = alone.states_gb + 4 * alone.parameters / share / 2**30
        assert together.states_gb == close.states_gb == pytest.approx(expected)


def test_asked_once_it_is_counted_while_it_is_asked_and_no_longer(demo: Path, work: Path, teacher: Path) -> None:
    size = ("zero.stage=3", "zero.bucket_elements=1000", "train.micro_batch_size=2", "data.seq_len=64")
    typed = (*size, "objective=distill", "objective.options.teacher=./teacher")
    alone, held = planned(work, *size).memory, planned(work, *typed).memory
    once = planned(work, *typed, "objective.options.top_k=8")
    assert once.memory == alone
    assert held.total_gb > alone.total_gb
    # A large one is the most there ever is: half of it on each of two ranks, what is fetched of it, and its logits.
    shape = model_shape(once.config.model)
    assert isinstance(shape, ShapeConfig)
    large = plan_memory(once.config, shape, ranks=2, micro_batch=2, frozen=10**9)
    assert large.when == "the teacher is asked"
    assert large.states_gb == pytest.approx(4 * 10**9 / 2 / 2**30)
    assert large.activations_gb == pytest.approx(2 * 64 * shape.vocab_size * 8 / 2**30)
    told = page(once)
    assert f"{teacher} is asked once about every row, before the first step, and held no longer" in told
    assert "68 bytes a trained token stay in the run directory: 0.068 GB for a million" in told


def test_more_probabilities_than_tokens_are_refused(demo: Path, work: Path, teacher: Path) -> None:
    with pytest.raises(UserError, match=r"objective\.options\.top_k: 513 of 512 tokens"):
        planned(work, "objective=distill", "objective.options.teacher=./teacher", "objective.options.top_k=513")


def test_other_tokens_are_refused_before_anything_is_queued(demo: Path, work: Path, teacher: Path) -> None:
    document = json.loads((teacher / "tokenizer.json").read_text())
    document["model"]["vocab"]["b"] = 2
    (teacher / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"objective\.options\.teacher.*another vocabulary.*number 2 is 'b'"):
        planned(work, "objective=distill", "objective.options.teacher=./teacher")


def test_a_node_finds_it_and_refuses_one_whose_tokens_have_changed(demo: Path, work: Path, teacher: Path) -> None:
    config, model = planned(work, "objective=distill", "objective.options.teacher=./teacher").config, demo / "model"
    assert teacher_folder(config, model) == teacher
    assert teacher_folder(planned(work, "objective.options.kl=0.1").config, model) == model
    assert teacher_folder(planned(work).config, model) is None
    (teacher / "config.json").write_text(
        (teacher / "config.json").read_text().replace('"vocab_size": ', '"vocab_size": 1')
    )
    with pytest.raises(UserError, match="another vocabulary"):
        teacher_folder(config, model)


def test_one_that_is_not_there_is_missed(demo: Path, work: Path) -> None:
    with pytest.raises(UserError, match=r"objective\.options\.teacher: there is no folder"):
        planned(work, "objective=distill", "objective.options.teacher=./nowhere")
    with pytest.raises(UserError, match=r"(?s)objective\.options\.teacher: .*teacher_parameters"):
        planned(work, "objective=distill", "objective.options.teacher=nobody/has-this")


def test_the_fingerprint_follows_it(demo: Path, work: Path, teacher: Path) -> None:
    typed = ("objective=distill", "objective.options.teacher=./teacher")
    before = planned(work, *typed).fingerprint
    assert before.model != planned(work).fingerprint.model
    (teacher / "model.safetensors").write_text("other weights")
    assert planned(work, *typed).fingerprint.model != before.model
    assert planned(work, "objective.options.kl=0.1").fingerprint.model == planned(work).fingerprint.model


def test_a_pull_to_the_start_costs_a_copy_of_the_partition(demo: Path, work: Path) -> None:
    alone, pulled = (planned(work, f"optim.pull_to_start={pull}", "zero.stage=2").memory for pull in (0, 0.1))
    assert pulled.states_gb == pytest.approx(alone.states_gb + 4 * alone.parameters / 2 / 2**30)
