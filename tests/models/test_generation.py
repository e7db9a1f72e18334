"""Tokens are drawn as the model's probabilities say, and the same for the same key, whoever else is in the batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from launcher.errors import UserError
from launcher.models.generation import Asked, answers, behind_answer, drawn, end_tokens, ends_of_tokenizer
from launcher.seeds import derive
from tests.workbench import write_tokenizer

END = 5


class Engine:
    """A model as DeepSpeed would wrap it."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.passes = 0

    def __call__(self, **inputs: Any) -> Any:
        """A forward pass."""
        self.passes += 1
        return self.module(**inputs)


@pytest.fixture(scope="module")
def engine() -> Engine:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=11, max_position_embeddings=64, **sizes))
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return Engine(model.eval())


def asked(*prompts: list[int], most: int = 12) -> list[Asked]:
    return [Asked(ids=np.array(ids, dtype=np.uint32), most=most, key=derive("key", *ids)) for ids in prompts]


def said(engine: Engine, prompts: list[Asked], temperature: float) -> list[list[int]]:
    found = answers(
        engine,
        prompts,
        ends=(END,),
        temperature=temperature,
        together=False,
        device=torch.device("cpu"),
        before_forward=lambda: None,
    )
    return [each.tolist() for each in found]


def test_tokens_come_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, -30.0]).repeat(40_000, 1)
    keys = torch.tensor([derive("row", number) for number in range(len(logits))])
    for temperature in (1.0, 0.5):
        tokens = drawn(logits, keys, 3, temperature)
        shares = torch.bincount(tokens, minlength=5) / len(tokens)
        assert torch.allclose(shares, (logits[0] / temperature).softmax(0), atol=0.01)


def test_another_place_or_key_draws_anew() -> None:
    logits, keys = torch.zeros(64, 1000), torch.full((64,), derive("one"))
    first = drawn(logits, keys, 0, 1.0)
    assert len(first.unique()) == 1
    assert first[0] != drawn(logits, keys, 1, 1.0)[0]
    others = torch.tensor([derive("row", number) for number in range(64)])
    assert len(drawn(logits, others, 0, 1.0).unique()) > 50


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_its_neighbours(engine: Engine, temperature: float) -> None:
    prompts = asked([1, 2, 3], [4], [6, 7, 8, 9, 10, 1, 2], [2, 2])
    together = said(engine, prompts, temperature)
    assert together == [said(engine, [prompt], temperature)[0] for prompt in prompts]
    assert len({tuple(answer) for answer in together}) > 1


def test_the_likeliest_tokens_are_those_of_transformers(engine: Engine) -> None:
    for prompt in ([1, 2, 3], [7, 8, 9, 10]):
        ids = torch.tensor([prompt])
        expected = engine.module.generate(
            ids, do_sample=False, max_new_tokens=12, eos_token_id=END, pad_token_id=0, attention_mask=ids * 0 + 1
        )
        assert said(engine, asked(prompt), 0.0) == [expected[0, len(prompt) :].tolist()]


def test_an_answer_ends_with_its_end_token_or_at_its_limit(engine: Engine) -> None:
    prompts = [*asked([1, 2], [3, 4], most=9), *asked([6], [7], [8], most=2)]
    for prompt, answer in zip(prompts, said(engine, prompts, 2.0), strict=True):
        assert 1 <= len(answer) <= prompt.most
        assert END not in answer[:-1]
        assert answer[-1] == END or len(answer) == prompt.most


def test_everything_that_ends_an_answer_is_known() -> None:
    def owner(told: Any) -> Any:
        return SimpleNamespace(eos_token_id=told, chat_template=None)

    model = SimpleNamespace(generation_config=owner([7, 9]), config=owner(9))
    assert end_tokens(model, owner(3)) == (3, 7, 9)
    with pytest.raises(UserError, match="ends an answer"):
        end_tokens(SimpleNamespace(config=owner(None)), owner(None))


@pytest.mark.parametrize(
    ("ending", "behind"),
    [
        ("<|end|>", ["<|end|>"]),
        # A turn ends with another token than the tokenizer names, and rows go on behind it.
        ("<|system|>\\n", ["<|system|>", "Ċ"]),
        (" and so on", []),
    ],
)
def test_what_a_template_puts_behind_an_answer_ends_it(tmp_path: Path, ending: str, behind: list[str]) -> None:
    write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = (
        "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{{ '" + ending + "' }}{% endfor %}"
    )
    found = behind_answer(tokenizer)
    assert tokenizer.convert_ids_to_tokens(found) == behind
    assert ends_of_tokenizer(tokenizer) == {tokenizer.eos_token_id, *found[:1]}
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    assert behind_answer(tokenizer) == ()
