"""Prompts become what the model was trained to answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from launcher.data.render.tokenizer import load_tokenizer
from launcher.errors import UserError
from launcher.evaluate.samples import Asked, answers_all, asked
from launcher.plan.build import Request, plan_request
from launcher.runplan import RunPlan
from tests.evaluate.engines import Engine
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


@pytest.fixture
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("stage", [0, 3])
def test_an_answer_is_the_likeliest_token_after_token_up_to_an_end(alone: None, stage: int) -> None:
    engine, passes, prompts = Engine(stage), list[int](), ((5, 6, 7), (9,), (40, 41))
    # What a model's own file says of dice and penalties is not asked for.
    engine.module.generation_config.do_sample = True
    engine.module.generation_config.repetition_penalty = 5.0
    engine.module.eval()
    expected = [greedy(engine, prompt, 6) for prompt in prompts]
    engine.module.train()
    given = Asked(ids=prompts, ends=(), most=6)
    found = answers_all(engine, given, torch.device("cpu"), lambda: passes.append(1), lambda: False)
    assert found == expected
    assert engine.training
    assert len(passes) == sum(map(len, expected))
    end = expected[0][2]
    cut = Asked(ids=prompts, ends=(end,), most=6)
    shorter = answers_all(engine, cut, torch.device("cpu"), lambda: None, lambda: False)
    assert shorter is not None
    assert shorter[0] == expected[0][: expected[0].index(end) + 1]
    assert answers_all(engine, given, torch.device("cpu"), lambda: None, lambda: True) is None


def greedy(engine: Engine, prompt: tuple[int, ...], most: int) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + most:
        with torch.no_grad():
            ids.append(int(engine.module(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == 0:
            break
    return ids[len(prompt) :]
