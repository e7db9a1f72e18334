"""Who says the answers of the model in training: that model itself, pass by pass, or vLLM with its weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from launcher.models.dtypes import TORCH_DTYPES
from launcher.models.generation import Answer, Asked, answers
from launcher.models.vllm import Room, Vllm
from launcher.objectives.protocol import Rollouts, Sampler
from launcher.train.current import weights_now_all
from launcher.train.parts import Parts


class Speaker(Protocol):
    """What gives answers."""

    def awake_all(self) -> AbstractContextManager[None]:
        """Within it answers are those of the model as it is on entering; collective."""
        ...

    def answers(self, prompts: Sequence[Asked], temperature: float, before_forward: Callable[[], None]) -> list[Answer]:
        """An answer to each prompt; all ranks call this equally often, with equally many."""
        ...


class Itself:
    """The model that trains."""

    def __init__(self, parts: Parts, asks: Rollouts, ends: Sequence[int]) -> None:
        self._parts, self._asks, self._ends = parts, asks, ends

    @contextmanager
    def awake_all(self) -> Iterator[None]:
        """In evaluation mode."""
        self._parts.engine.eval()
        try:
            yield
        finally:
            self._parts.engine.train()

    def answers(self, prompts: Sequence[Asked], temperature: float, before_forward: Callable[[], None]) -> list[Answer]:
        """So many at a time."""
        said: list[Answer] = []
        for low in range(0, len(prompts), self._asks.at_once):
            drawn = answers(
                self._parts.engine,
                prompts[low : low + self._asks.at_once],
                ends=self._ends,
                temperature=temperature,
                # A pass through a model whose parameters lie in parts on all ranks is made by all ranks.
                together=self._parts.plan.config.zero.stage == 3,
                device=self._parts.device,
                before_forward=before_forward,
            )
            said += [Answer(ids=ids) for ids in drawn]
        return said


class ByVllm:
    """vLLM, which sleeps between rollouts."""

    def __init__(self, parts: Parts, asks: Rollouts, ends: Sequence[int]) -> None:
        """Collective."""
        config = parts.plan.config
        room = Room(
            tokens=config.data.seq_len,
            at_once=asks.at_once * asks.vllm_tensor_parallel,
            memory=asks.vllm_memory,
            ranks=asks.vllm_tensor_parallel,
        )
        self._parts, self._ends = parts, ends
        dtype = TORCH_DTYPES[config.precision.dtype]
        self._vllm = Vllm(Path(os.environ["LAUNCHER_MODEL"]), dtype, room, parts.device)

    @contextmanager
    def awake_all(self) -> Iterator[None]:
        """With the weights of now."""
        self._vllm.wake(weights_now_all(self._parts.engine, self._parts.plan.config.adapter))
        try:
            yield
        finally:
            self._vllm.sleep()

    def answers(self, prompts: Sequence[Asked], temperature: float, before_forward: Callable[[], None]) -> list[Answer]:
        """All at once, as many of them side by side as there is room for."""
        return self._vllm.answers(prompts, ends=self._ends, temperature=temperature, before_step=before_forward)


def speaker_all(parts: Parts, asks: Rollouts, ends: Sequence[int]) -> Speaker:
    """The one that the plan names; collective."""
    return ByVllm(parts, asks, ends) if asks.sampler is Sampler.vllm else Itself(parts, asks, ends)
