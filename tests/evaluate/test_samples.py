"""Prompts become what the model was trained to answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher.data.render.tokenizer import load_tokenizer
from launcher.errors import UserError
from launcher.evaluate.samples import asked
from launcher.plan.build import Request, plan_request
from launcher.runplan import RunPlan
from tests.workbench import Bench


@pytest.fixture
def plan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> RunPlan:
    monkeypatch.chdir(bench.root)
    words = [*bench.base[1:], "evaluate.prompts=[the fox,dog]", "evaluate.max_new_tokens=5"]
    return plan_request(Request(recipe="demo", overrides=words, config_dir=None, work_dir=bench.root))


def test_a_prompt_is_a_users_turn_and_an_answer_ends_where_the_template_says(plan: RunPlan) -> None:
    tokenizer = load_tokenizer(str(plan.config.model.path))
    tokenizer.eos_token = "<|system|>"
    found = asked(tokenizer, plan)
    assert [tokenizer.decode(ids) for ids in found.ids] == [
        "<|user|>the fox<|end|><|assistant|>",
        "<|user|>dog<|end|><|assistant|>",
    ]
    assert {tokenizer.decode([end]) for end in found.ends} == {"<|system|>", "<|end|>"}
    assert found.most == 5


def test_without_a_template_a_prompt_is_text(plan: RunPlan, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(plan.config.model.path))
    tokenizer.chat_template = None
    found = asked(tokenizer, plan)
    assert [tokenizer.decode(ids) for ids in found.ids] == ["the fox", "dog"]
    assert [tokenizer.decode([end]) for end in found.ends] == ["<|end|>"]


def test_a_prompt_that_is_too_long_is_named(plan: RunPlan) -> None:
    evaluate = replace(plan.config.evaluate, prompts=["dog", "fox " * 100])
    plan = replace(plan, config=replace(plan.config, evaluate=evaluate))
    with pytest.raises(UserError, match=r"evaluate\.prompts\[1\]"):
        asked(load_tokenizer(str(plan.config.model.path)), plan)
