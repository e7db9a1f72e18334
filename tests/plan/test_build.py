from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.data.source import Format
from launcher.errors import UserError
from launcher.plan.build import Request, new_run_id, plan_config, plan_request
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from tests.fakes import write_rows


def planned(work: Path, *overrides: str, recipe: str = "demo") -> RunPlan:
    return plan_request(Request(recipe=recipe, overrides=overrides, config_dir=None, work_dir=work))


def test_planning_writes_nothing(demo: Path, work: Path) -> None:
    planned(work)
    assert list(work.iterdir()) == []


def test_a_plan_survives_being_written_and_read(demo: Path, work: Path) -> None:
    write_rows(work / "mine.jsonl", 4)
    plan = planned(work, "cluster=devslurm", "data.train={path:mine.jsonl,format:messages,limit:3}")
    plan.write(work / "plan.json")
    assert RunPlan.load(work / "plan.json") == plan


def test_relative_paths_are_seen_from_the_folder_the_command_was_typed_in(demo: Path, work: Path) -> None:
    write_rows(work / "mine.jsonl", 4)
    plan = planned(work, "data.train=mine.jsonl", "data.eval=null", "runs_root=out")
    assert [source.paths for source in plan.train_data.sources] == [(str(work / "mine.jsonl"),)]
    assert Path(plan.run_dir).parent == work / "out"
    assert plan.eval_data == {}


@pytest.mark.parametrize(
    "typed",
    ["data.train=[a.jsonl,b.jsonl]", "data.train=[{path:a.jsonl,format:messages,limit:2},b.jsonl]"],
)
def test_data_can_be_several_files_with_settings_of_their_own(demo: Path, work: Path, typed: str) -> None:
    for name in ("a", "b"):
        write_rows(work / f"{name}.jsonl", 4)
    first, second = planned(work, typed, "data.format=auto").train_data.sources
    assert [Path(source.paths[0]).name for source in (first, second)] == ["a.jsonl", "b.jsonl"]
    expected = (Format.messages, 2) if "limit" in typed else (Format.auto, None)
    assert (first.format, first.limit) == expected
    assert (second.format, second.limit) == (Format.auto, None)


def test_held_out_sets_have_names_and_all_of_them_are_kept_from_training(demo: Path, work: Path) -> None:
    for name in ("a", "b"):
        write_rows(work / f"{name}.jsonl", 4)
    plan = planned(work, "data.eval={in_domain:a.jsonl,general:{path:b.jsonl,limit:3}}", "data.slices=[lang]")
    assert list(plan.eval_data) == ["eval_in_domain", "eval_general"]
    general = plan.eval_data["eval_general"]
    assert [(Path(source.paths[0]).name, source.limit) for source in general.sources] == [("b.jsonl", 3)]
    assert (general.slices, plan.train_data.slices) == (("lang",), ())
    assert [Path(source.paths[0]).name for source in plan.train_data.held_out] == ["a.jsonl", "b.jsonl"]
    # A plan is made again of its own config when a run is resumed.
    again = plan_config(plan.config, [], recipe="demo", run_id=plan.run_id, work_dir=work / "elsewhere")
    assert again.eval_data == plan.eval_data
    assert again.config == plan.config


@pytest.mark.parametrize(
    ("name", "text"), [("p.txt", "one\n\ntwo, too\n"), ("p.jsonl", '{"prompt": "one"}\n"two, too"\n')]
)
def test_prompts_are_read_when_the_run_is_planned(demo: Path, work: Path, name: str, text: str) -> None:
    (work / name).write_text(text)
    assert planned(work, f"evaluate.prompts={name}").config.evaluate.prompts == ["one", "two, too"]
    assert planned(work, "evaluate.prompts=[one,'two, too']").config.evaluate.prompts == ["one", "two, too"]


def test_prompts_that_cannot_be_read_are_told_of(demo: Path, work: Path) -> None:
    (work / "bad.jsonl").write_text('{"promt": "one"}\n')
    for name in ("bad.jsonl", "none.txt"):
        with pytest.raises(UserError, match=name) as caught:
            planned(work, f"evaluate.prompts={name}")
        assert [problem.where for problem in caught.value.problems] == ["evaluate.prompts"]


def test_answers_that_are_scored_are_planned_and_their_package_must_be_there(
    demo: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for typed in ("metrics=[rouge,fields]", "by_set.near=[rouge]", "by_set={near:[rouge]}"):
        sets = f"data.eval={{near:{demo / 'held_out.jsonl'},far:{demo / 'held_out.jsonl'}}}"
        plan = planned(work, sets, f"evaluate.answers.{typed}", "checkpoint.best_by=eval_near_rouge_l")
        again = plan_config(plan.config, [], recipe="demo", run_id=plan.run_id, work_dir=work)
        assert again.config == plan.config
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"zero-launcher\[rouge\]") as caught:
        planned(work, "evaluate.answers.metrics=[rouge]")
    assert [problem.where for problem in caught.value.problems] == ["evaluate.answers.metrics"]
    planned(work, "evaluate.answers.metrics=[squad]")


def test_what_is_missing_on_disk_comes_with_every_other_mistake(demo: Path, work: Path) -> None:
    typed = ("data.train=none.jsonl", "model.path=./none", "train.global_batch_size=7", "optim.lr=-1")
    with pytest.raises(UserError) as caught:
        planned(work, *typed)
    found = {problem.where for problem in caught.value.problems}
    assert found == {"data.train", "model.path", "train.global_batch_size", "optim.lr"}


@pytest.mark.parametrize(
    ("text", "words"),
    [("not json\n", "not JSON"), ('{"messages": []}\n', "messages"), ("", "empty"), ("[1, 2]\n", "JSON array")],
)
def test_a_data_file_that_cannot_be_used_is_refused_before_anything_is_queued(
    demo: Path, work: Path, text: str, words: str
) -> None:
    (work / "bad.jsonl").write_text(text)
    with pytest.raises(UserError, match=words):
        planned(work, "data.train=bad.jsonl")


def test_pretrained_weights_that_are_not_there_are_missed(demo: Path, work: Path) -> None:
    with pytest.raises(UserError, match="holds no weights"):
        planned(work, "model.init=pretrained")


def test_a_config_of_no_language_model_is_refused(demo: Path, work: Path) -> None:
    (demo / "model/config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(UserError, match="is not the config of a causal language model"):
        planned(work)


def test_a_runs_root_that_is_a_file_is_refused(demo: Path, work: Path) -> None:
    (work / "runs").write_text("")
    with pytest.raises(UserError, match="is a file"):
        planned(work)


def test_the_fingerprint_follows_what_decides_the_result_and_nothing_else(demo: Path, work: Path) -> None:
    base = planned(work).fingerprint
    assert planned(work, "runs_root=out", "tracking=disabled", "checkpoint.keep_last=9").fingerprint == base
    assert planned(work, "optim.lr=0.5").fingerprint == replace(
        base, config=planned(work, "optim.lr=0.5").fingerprint.config
    )
    assert planned(work, "optim.lr=0.5").fingerprint.config != base.config
    write_rows(demo / "train.jsonl", 9)
    assert planned(work).fingerprint == replace(base, data=planned(work).fingerprint.data)
    assert planned(work).fingerprint.data != base.data
    (demo / "model/tokenizer.json").write_text("{}")
    assert planned(work).fingerprint.tokenizer != base.tokenizer


def test_two_runs_planned_at_the_same_moment_have_different_ids() -> None:
    assert new_run_id("demo") != new_run_id("demo")


def test_run_directories_lie_in_the_runs_root(demo: Path, work: Path) -> None:
    plan = planned(work)
    assert RunDir(Path(plan.run_dir)).root == work / "runs" / plan.run_id


ROLLOUTS = ("objective=grpo", "objective.options.max_new_tokens=16", "data.format=auto")


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("def reward(", "is no Python"), ("def judge(a, b, c): ...", "has no function reward")],
)
def test_a_file_that_judges_nothing_is_told_before_anything_is_queued(
    demo: Path, work: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (work / "mine.py").write_text(text)
    with pytest.raises(UserError, match=words):
        planned(work, *ROLLOUTS, "objective.options.reward=mine.py")


def test_the_file_that_judges_is_named_so_that_every_node_finds_it(demo: Path, work: Path) -> None:
    (work / "mine.py").write_text("from math import cos as reward")
    plan = planned(work, *ROLLOUTS, "objective.options.reward=mine.py")
    assert plan.config.objective.options["reward"] == str(work / "mine.py")
