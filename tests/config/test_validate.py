from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from launcher.config.compose import compose, decode_config
from launcher.config.schema import Config
from launcher.config.search import search_path
from launcher.config.validate import secrets_in, validate
from launcher.errors import Problem
from launcher.plain import plain


@cache
def demo_values() -> dict[str, Any]:
    values: dict[str, Any] = plain(compose("demo", [], search_path(None, Path("/nowhere"))).config)
    return values


ANSWERS: dict[str, Any] = {"metrics": ["squad"], "by_set": {}, "limit": None, "max_new_tokens": 8, "at_once": 2}
EXPORT_JOB = {"partition": None, "cpus": 1, "mem_gb": None, "time_min": 1}
EVAL_JOB = {"partition": None, "gpus": 1, "cpus": 1, "mem_gb": None, "time_min": 1}


def changed(**changes: Any) -> Config:
    """The demo's config once `group__key=value`, or `key=value` at the top, are set."""
    values = copy.deepcopy(demo_values())
    for name, value in changes.items():
        group, _, key = name.partition("__")
        (values[group] if key else values)[key or group] = value
    composed = decode_config(values)
    assert composed.problems == []
    assert composed.config is not None
    return composed.config


def faults(**changes: Any) -> list[Problem]:
    """What is wrong with that config."""
    return validate(changed(**changes))


def test_the_demo_has_no_fault() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"train__max_steps": None}, "train.max_steps, train.epochs"),
        ({"train__epochs": 1}, "train.max_steps, train.epochs"),
        ({"checkpoint__keep_every": 0}, "checkpoint.keep_every"),
        ({"checkpoint__keep_last": None, "checkpoint__keep_every": 5}, "checkpoint.keep_every"),
        ({"checkpoint__keep_best": 1, "data__eval": None}, "checkpoint.keep_best"),
        ({"train__max_steps": 0}, "train.max_steps"),
        ({"train__stop_at": 1001}, "train.stop_at"),
        ({"train__global_batch_size": -8}, "train.global_batch_size"),
        ({"train__micro_batch_size": "some"}, "train.micro_batch_size"),
        ({"train__micro_batch_size": True}, "train.micro_batch_size"),
        ({"train__seed": -1}, "train.seed"),
        ({"optim__name": "sgd"}, "optim.name"),
        ({"optim__lr": 0}, "optim.lr"),
        ({"cluster__eval_job": {**EVAL_JOB, "gpus": -1}}, "cluster.eval_job.gpus"),
        ({"cluster__eval_job": {**EVAL_JOB, "time_min": 0}}, "cluster.eval_job.time_min"),
        ({"cluster__eval_job": {**EVAL_JOB, "partition": "a\nb"}}, "cluster.eval_job.partition"),
        ({"cluster__export_job": {**EXPORT_JOB, "mem_gb": 0}}, "cluster.export_job.mem_gb"),
        ({"then__few_shot": -1}, "then.few_shot"),
        ({"then__tasks": ["a", "a"]}, "then.tasks"),
        ({"optim__betas": [0.9]}, "optim.betas"),
        ({"optim__betas": [0.9, 1.0]}, "optim.betas"),
        ({"schedule__warmup_ratio": 1.5}, "schedule.warmup_ratio"),
        ({"zero__stage": 4}, "zero.stage"),
        ({"zero__stage": 2, "zero__offload_param": True}, "zero.offload_param"),
        ({"zero__stage": 0, "zero__offload_optimizer": True}, "zero.offload_optimizer"),
        ({"data__seq_len": 0}, "data.seq_len"),
        ({"data__train": []}, "data.train"),
        ({"data__train": 7}, "data.train"),
        ({"data__eval": {"General": "a.jsonl"}, "checkpoint__best_by": "eval_loss"}, "data.eval.General"),
        ({"data__eval": {"general": {"path": "a", "limit": 0}}}, "data.eval.general.limit"),
        ({"data__eval": {}}, "data.eval"),
        ({"data__slices": ["lang", "lang"]}, "data.slices"),
        ({"data__slices": ["lang"], "data__eval": None}, "data.slices"),
        ({"checkpoint__best_by": "eval_general_loss"}, "checkpoint.best_by"),
        ({"checkpoint__best_by": "loss"}, "checkpoint.best_by"),
        ({"evaluate__prompts": 7}, "evaluate.prompts"),
        ({"evaluate__prompts": ["a", 7]}, "evaluate.prompts"),
        ({"evaluate__prompts": ["a"], "data__eval": None}, "evaluate.prompts"),
        ({"evaluate__max_new_tokens": 0}, "evaluate.max_new_tokens"),
        ({"evaluate__answers": {**ANSWERS, "limit": 0}}, "evaluate.answers.limit"),
        ({"evaluate__answers": {**ANSWERS, "at_once": 0}}, "evaluate.answers.at_once"),
        ({"evaluate__answers": {**ANSWERS, "max_new_tokens": 256}}, "evaluate.answers.max_new_tokens"),
        ({"evaluate__answers": ANSWERS, "data__eval": None}, "evaluate.answers.metrics"),
        ({"evaluate__answers": ANSWERS, "data__train_on": "all"}, "evaluate.answers.metrics"),
        ({"evaluate__answers": ANSWERS, "data__overlong": "split"}, "evaluate.answers.metrics"),
        ({"evaluate__answers": ANSWERS, "data__format": "text"}, "data.eval"),
        ({"evaluate__answers": ANSWERS, "objective__name": "reward"}, "evaluate.answers.metrics"),
        ({"evaluate__answers": ANSWERS, "objective__name": "dpo"}, "evaluate.answers.metrics"),
        ({"evaluate__answers": {**ANSWERS, "metrics": ["bleu"]}}, "evaluate.answers.metrics"),
        ({"evaluate__answers": {**ANSWERS, "metrics": ["rouge", "rouge"]}}, "evaluate.answers.metrics"),
        ({"evaluate__answers": {**ANSWERS, "by_set": {"near": ["rouge"]}}}, "evaluate.answers.by_set.near"),
        ({"objective__name": "sftt"}, "objective.name"),
        ({"model__revision": "main"}, "model.revision"),
        ({"cluster__nodes": 2}, "cluster.nodes"),
        ({"cluster__signal_lead_s": 1800}, "cluster.signal_lead_s"),
        ({"cluster__partition": "a\nb"}, "cluster.partition"),
        ({"cluster__environment": {"A-B": "x"}}, "cluster.environment.A-B"),
        ({"cluster__environment": {"WANDB_API_KEY": "x"}}, "cluster.environment.WANDB_API_KEY"),
    ],
)
def test_a_rule_that_is_broken_names_its_key(changes: dict[str, Any], where: str) -> None:
    assert [problem.where for problem in faults(**changes)] == [where]


def test_an_optimiser_that_is_none_here_is_refused_with_those_that_are() -> None:
    (problem,) = faults(optim__name="sgd")
    assert set(problem.valid.split(", ")) <= {"adamw", "lion", "muon", "adafactor", "adam8bit"}


def test_muon_is_for_partitions_on_gpus() -> None:
    assert {problem.where for problem in faults(optim__name="muon", zero__stage=0)} == {"optim.name"}
    (problem,) = faults(optim__name="muon", zero__stage=2, zero__offload_optimizer=True)
    assert "NCCL" in problem.message
    assert {problem.where for problem in faults(optim__name="muon", zero__stage=1, optim__momentum=1.0)} == {
        "optim.momentum"
    }


def test_an_average_is_a_share_and_needs_partitions() -> None:
    assert {problem.where for problem in faults(optim__ema_decay=1.0)} == {"optim.ema_decay"}
    (problem,) = faults(optim__ema_decay=0.999, zero__stage=0)
    assert "zero.stage=1" in problem.remedy
    assert faults(optim__ema_decay=0.999, zero__stage=1) == []


def test_lion_is_for_partitioned_states() -> None:
    (problem,) = faults(optim__name="lion", zero__stage=0)
    assert problem.remedy == "write zero.stage=1"
    assert faults(optim__name="lion", zero__stage=1) == []


def test_all_broken_rules_are_named_at_once() -> None:
    found = faults(zero__stage=9, optim__lr=-1, train__seed=-1, data__seq_len=0)
    assert len(found) == 4


def test_best_by_takes_any_measure_of_any_set_and_tells_what_there_will_be() -> None:
    sets = {"in_domain": "a.jsonl", "general": ["b.jsonl"]}
    for name in ("eval_loss", "eval_general_loss", "eval_in_domain_loss_change", "eval_general_token_accuracy"):
        assert faults(data__eval=sets, checkpoint__best_by=name) == []
    (wrong,) = faults(data__eval=sets, checkpoint__best_by="eval_genral_loss")
    assert wrong.valid.startswith("eval_general_loss, ")
    assert "eval_in_domain_perplexity" in wrong.valid
    # Another objective measures something else.
    (wrong,) = faults(objective__name="reward", checkpoint__best_by="eval_perplexity")
    assert "eval_accuracy" in wrong.valid


def test_best_by_takes_what_answers_are_scored_by_where_they_are() -> None:
    sets = {"news": "a.jsonl", "forms": "b.jsonl"}
    asked = {**ANSWERS, "metrics": ["fields", "squad"], "by_set": {"news": ["rouge"]}}
    for name in ("eval_rouge_l", "eval_news_rouge_1", "eval_forms_field_f1", "eval_forms_exact_match", "eval_token_f1"):
        assert faults(data__eval=sets, evaluate__answers=asked, checkpoint__best_by=name) == []
    for name, nearest in (("eval_forms_rouge_l", "eval_rouge_l"), ("eval_news_field_f1", "eval_forms_field_f1")):
        (wrong,) = faults(data__eval=sets, evaluate__answers=asked, checkpoint__best_by=name)
        assert nearest in wrong.valid
    assert faults(evaluate__answers=ANSWERS, checkpoint__best_by="eval_exact_match") == []
    assert len(faults(checkpoint__best_by="eval_exact_match")) == 1


def test_names_of_metrics_and_sets_that_are_nearly_right_are_put_right() -> None:
    sets = {"news": "a.jsonl", "forms": "b.jsonl"}
    asked = {**ANSWERS, "by_set": {"new": ["rouge"], "forms": ["field"]}}
    found = faults(data__eval=sets, evaluate__answers=asked)
    assert [(one.where.split(".")[-1], one.valid.split(", ")[0]) for one in found] == [
        ("new", "news"),
        ("forms", "fields"),
    ]


def test_a_model_that_gives_numbers_is_asked_nothing() -> None:
    found = faults(objective__name="reward", evaluate__prompts=["how are you?"], then__tasks=["hellaswag"])
    assert [problem.where for problem in found] == ["evaluate.prompts", "then.tasks"]


def test_a_secret_of_the_environment_in_a_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "0123456789abcdef")
    config = changed(tracking__project="x-0123456789abcdef")
    assert [problem.where for problem in secrets_in(config)] == ["tracking.project"]
    assert "0123456789abcdef" not in str(next(iter(secrets_in(config))))


@pytest.mark.parametrize("path", ["/tmp/x\ntouch pwned\nx", "/tmp/" + "y" * 300, "/tmp/\x00z"])
def test_paths_that_no_script_or_file_system_should_carry_are_refused(path: str) -> None:
    assert "runs_root" in [problem.where for problem in faults(runs_root=path)]


def test_answers_of_the_models_own_fit_the_batch_the_rows_and_the_steps() -> None:
    options = {"reward": "mine.py", "group": 3, "updates": 4, "max_new_tokens": 256}
    found = faults(
        objective={"name": "grpo", "options": options},
        data__packing=True,
        train__max_steps=10,
        train__eval_every=8,
        checkpoint__every_steps=6,
    )
    assert [problem.where for problem in found] == [
        "data.packing",
        "objective.options.max_new_tokens",
        "train.global_batch_size",
        "train.max_steps",
        "checkpoint.every_steps",
    ]
