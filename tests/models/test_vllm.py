"""What vLLM is asked and how its words are read, against a stand-in; `test_rollout_vllm` has the real one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from launcher.errors import UserError
from launcher.models import vllm
from launcher.models.generation import Asked
from launcher.models.vllm import Room, Vllm

ROOM = Room(tokens=64, at_once=8, memory=0.3, ranks=1)


class Engine:
    """Answers each prompt with its own tokens; those asked last are done first."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.calls: list[str] = []
        self.weights: list[str] = []
        self.waiting: list[tuple[str, list[int], Any]] = []
        self.asked: list[Any] = []
        self.llm_engine = self

    def add_request(self, name: str, prompt: dict[str, list[int]], asked: Any) -> None:
        self.asked.append(asked)
        self.waiting.append((name, prompt["prompt_token_ids"], asked))

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)

    def step(self) -> list[Any]:
        name, ids, asked = self.waiting.pop()
        ids = ids[: asked.max_tokens]
        logprobs = [{token: SimpleNamespace(logprob=-token / 100)} for token in ids]
        return [
            SimpleNamespace(request_id="another", finished=False, outputs=[]),
            SimpleNamespace(
                request_id=name, finished=True, outputs=[SimpleNamespace(token_ids=ids, logprobs=logprobs)]
            ),
        ]

    def collective_rpc(self, method: str, kwargs: dict[str, Iterable[tuple[str, Any]]]) -> None:
        self.calls.append(method)
        self.weights += [name for name, _ in kwargs["weights_iterator"]]

    def reset_prefix_cache(self) -> None:
        self.calls.append("reset_prefix_cache")

    def sleep(self, level: int) -> None:
        self.calls.append(f"sleep {level}")

    def wake_up(self, tags: list[str]) -> None:
        self.calls.append(f"wake {tags[0]}")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Vllm:
    fake = ModuleType("vllm")
    fake.LLM, fake.SamplingParams = Engine, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", fake)
    for name in vllm.ENVIRONMENT:
        monkeypatch.setenv(name, "as the user has it")
    return Vllm(Path("model"), torch.bfloat16, ROOM, torch.device("cpu"))


def test_an_answer_belongs_to_its_prompt_whatever_is_done_first(made: Vllm) -> None:
    prompts = [Asked(ids=np.array([5, 6, 7 + n]), most=3 - n, key=2**63 + n) for n in range(3)]
    steps: list[int] = []
    for _ in range(2):
        answers = made.answers(prompts, ends=[0, 9], temperature=0.7, before_step=lambda: steps.append(1))
        assert [answer.ids.tolist() for answer in answers] == [[5, 6, 7], [5, 6], [5]]
        assert answers[1].logps == pytest.approx(np.array([-0.05, -0.06], dtype=np.float32))
    assert len(steps) == 6


def test_it_is_asked_for_draws_from_the_whole_distribution_by_the_answers_key(made: Vllm) -> None:
    made.answers([Asked(ids=np.array([4]), most=6, key=2**63 + 11)], ends=[3], temperature=0.5, before_step=int)
    engine = made._engine
    (asked,) = engine.asked
    assert (asked.temperature, asked.seed, asked.max_tokens, asked.stop_token_ids) == (0.5, 11, 6, [3])
    # Nothing that would leave tokens out of the distribution, and no end but those that training knows.
    assert not hasattr(asked, "top_k")
    assert not hasattr(asked, "top_p")
    assert asked.ignore_eos
    assert engine.settings["logprobs_mode"] == "processed_logprobs"
    assert engine.settings["load_format"] == "dummy"
    assert engine.settings["dtype"] == "bfloat16"
    assert engine.settings["max_model_len"] == 64


def test_it_has_the_weights_of_now_before_it_answers_and_none_of_what_it_kept_of_others(made: Vllm) -> None:
    weights = ((name, torch.zeros(1)) for name in ("one", "two"))
    made.wake(weights)
    assert made._engine.weights == ["one", "two"]
    assert made._engine.calls == ["reload_weights", "reset_prefix_cache"]


def test_where_it_is_missing_or_refuses_the_user_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in vllm.ENVIRONMENT:
        monkeypatch.setenv(name, "0")
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match="vLLM is not there"):
        Vllm(Path("model"), torch.float32, ROOM, torch.device("cpu"))

    def refusing(**settings: Any) -> None:
        raise ValueError("long story\nFree memory is less than desired")

    fake = ModuleType("vllm")
    fake.LLM = refusing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", fake)
    with pytest.raises(UserError, match="vLLM cannot run model: Free memory is less than desired"):
        Vllm(Path("model"), torch.float32, ROOM, torch.device("cpu"))
