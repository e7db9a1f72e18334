from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.config.compose import Composed, as_yaml, compose
from launcher.config.schema import Config, Dtype
from launcher.config.search import search_path, shipped
from launcher.errors import NotFoundError, Problem, UserError

HERE = Path("/nowhere")


def composed(*overrides: str, recipe: str = "demo", work_dir: Path = HERE, config_dir: Path | None = None) -> Composed:
    return compose(recipe, overrides, search_path(config_dir, work_dir))


def config_of(*overrides: str, recipe: str = "demo", work_dir: Path = HERE, config_dir: Path | None = None) -> Config:
    result = composed(*overrides, recipe=recipe, work_dir=work_dir, config_dir=config_dir)
    assert result.problems == []
    assert result.config is not None
    return result.config


def only_problem(*overrides: str, recipe: str = "demo", work_dir: Path = HERE) -> Problem:
    (problem,) = composed(*overrides, recipe=recipe, work_dir=work_dir).problems
    return problem


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_an_override_wins_over_the_recipe() -> None:
    assert config_of("optim.lr=1e-3", "precision=bf16").optim.lr == 1e-3
    assert config_of("precision=bf16").precision.dtype is Dtype.bf16


def test_the_config_is_frozen_all_the_way_down() -> None:
    config = config_of()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.runs_root = "elsewhere"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.zero.stage = 1  # type: ignore[misc]


def test_all_mistakes_are_found_at_once_and_the_rest_is_kept_for_further_checks() -> None:
    result = composed("zero.stgae=3", "optim.lr=fast", "train.global_batch_size=7", "precision=bf61")
    assert {problem.where for problem in result.problems} == {"zero.stgae", "optim.lr", "precision"}
    assert result.config is not None
    assert result.config.train.global_batch_size == 7


def test_a_mistyped_key_names_the_nearest() -> None:
    assert only_problem("zero.stgae=3").valid.startswith("zero.stage")


def test_an_unknown_group_choice_names_the_choices_nearest_first() -> None:
    problem = only_problem("cluster=slrum")
    assert problem.where == "cluster"
    assert problem.valid.startswith("slurm, ")
    assert "_base" not in problem.valid


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(NotFoundError, match="sft_llama3_8b"):
        composed(recipe="sft_lama3_8b")


def test_a_value_that_is_required_and_missing_says_so() -> None:
    problem = only_problem("data.train=???")
    assert problem.where == "data.train"
    assert "required" in problem.message


@pytest.mark.parametrize("text", ["optim.lr=1e-5,1e-6", "precision=bf16,fp32", "train.seed=range(1,3)"])
def test_a_sweep_is_refused(text: str) -> None:
    problem = only_problem(text)
    assert problem.where == text
    assert "sweep" in problem.message


@pytest.mark.parametrize("text", ["optim.lr", "=3", "a b=c d[", "optim.lr=[1"])
def test_what_is_no_override_is_named_with_the_grammar(text: str) -> None:
    problem = only_problem(text)
    assert problem.where == text
    assert "key=value" in problem.valid


def test_a_key_can_be_added_where_keys_are_free() -> None:
    config = config_of("+cluster.environment.NCCL_DEBUG=INFO", "+deepspeed.extra.comms_logger.enabled=true")
    assert config.cluster.environment == {"NCCL_DEBUG": "INFO"}
    assert config.deepspeed.extra == {"comms_logger": {"enabled": True}}


def test_a_value_with_a_dollar_sign_is_resolved_and_an_unknown_reference_explained() -> None:
    assert "NO_SUCH_VARIABLE_HERE" in only_problem("runs_root=${oc.env:NO_SUCH_VARIABLE_HERE}").message


def test_a_file_that_is_no_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path / "recipes/broken.yaml", "defaults: [launcher]\noptim: lr: 3\n")
    problem = only_problem(recipe="broken", work_dir=tmp_path)
    assert "broken.yaml" in problem.message
    assert "line 2" in problem.message


def test_a_choice_without_a_group_is_refused_where_hydra_stumbles_over_it(tmp_path: Path) -> None:
    write(tmp_path / "recipes/nameless.yaml", 'defaults:\n- "": null\n')
    problem = only_problem(recipe="nameless", work_dir=tmp_path)
    assert problem.where == "recipe 'nameless'"
    assert "Hydra cannot read a defaults list" in problem.message
    assert only_problem("+='true'").where == "+='true'"


def test_what_cannot_be_deleted_is_named_beside_everything_else() -> None:
    problems = composed("~data.pakking", "optim.lr=x", "~data.packing=7", "=3").problems
    assert {problem.where for problem in problems} == {"~data.pakking", "~data.packing=7", "optim.lr", "=3"}
    assert only_problem("~data.pakking").remedy == "leave it out"


def test_what_makes_sense_only_with_a_broken_override_is_left_out_with_it() -> None:
    problems = composed("data.packing=", "~data.packing=").problems
    assert {problem.where for problem in problems} == {"data.packing"}
    # One deletes what another, which is at fault elsewhere, would have added.
    assert composed("+data.more={seq_len: x}", "optim.lr=x", "~data.more").problems


def test_recipes_and_groups_beside_the_work_win_over_the_shipped_ones(tmp_path: Path) -> None:
    write(tmp_path / "conf/optim/adamw.yaml", (shipped("conf") / "optim/adamw.yaml").read_text() + "\n# mine\n")
    write(tmp_path / "conf/cluster/mine.yaml", "defaults: [slurm]\npartition: big\n")
    write(tmp_path / "recipes/demo.yaml", "defaults: [launcher, _self_]\noptim: {lr: 0.5}\ndata: {train: x}\n")
    config = config_of("cluster=mine", work_dir=tmp_path)
    assert (config.optim.lr, config.cluster.partition) == (0.5, "big")


def test_config_dir_wins_over_the_work_dir(tmp_path: Path) -> None:
    for folder, rate in ((tmp_path / "work", "0.1"), (tmp_path / "named", "0.2")):
        write(
            folder / "recipes/mine.yaml", f"defaults: [launcher, _self_]\noptim: {{lr: {rate}}}\ndata: {{train: x}}\n"
        )
    config = config_of(recipe="mine", work_dir=tmp_path / "work", config_dir=tmp_path / "named")
    assert config.optim.lr == 0.2


def test_a_config_dir_without_the_two_folders_is_searched_itself(tmp_path: Path) -> None:
    write(tmp_path / "flat/mine.yaml", "defaults: [launcher, _self_]\ndata: {train: x}\n")
    write(tmp_path / "flat/precision/odd.yaml", "dtype: fp16\n")
    assert config_of("precision=odd", recipe="mine", config_dir=tmp_path / "flat").precision.dtype is Dtype.fp16


def test_a_config_dir_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        search_path(tmp_path / "none", HERE)


def test_a_shipped_file_is_found_by_name() -> None:
    train = config_of(recipe="sft_llama3_8b").data.train
    assert Path(train).is_file()
    assert Path(train).is_relative_to(shipped("recipes"))


def test_what_looks_like_a_reference_stays_a_text_from_file_to_file(tmp_path: Path) -> None:
    odd = ["${", "\\${a}", "\\\\${oc.env:HOME}", "a\\", "$", "${model.path}${"]
    config = replace(config_of(), tracking=replace(config_of().tracking, tags=odd))
    write(tmp_path / "recipes" / "again.yaml", "# @package _global_\n" + as_yaml(config))
    assert config_of(recipe="again", config_dir=tmp_path).tracking.tags == odd
