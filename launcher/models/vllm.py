"""vLLM gives the answers: an engine in every rank's own process, beside the model that trains and with its weights.

Owns how the engine is made, how it gets weights and lets go of memory, and how it is asked. Must not know who asks, nor
where the weights come from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from launcher.data.tokens import AnyArray
from launcher.errors import Problem, UserError
from launcher.models.generation import Answer, Asked

KEY = "objective.options.sampler"
ENVIRONMENT = {
    # The engine runs in the rank's own process: it is there that the weights are.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CONFIGURE_LOGGING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    # Only the CPU's: no thread is bound to a core beside training's own, and the cache takes so many GB.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
"""What vLLM reads when it is imported; what the user has set stays."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What the engine may take."""

    tokens: int
    """Longest prompt with its answer."""
    at_once: int
    """Answers at a time, of all ranks that share an engine."""
    memory: float
    """Share of a GPU's memory for its weights and its keys and values."""
    ranks: int
    """So many neighbouring ranks hold one engine's weights in parts, and give the same answers."""


class Vllm:
    """An engine, asleep until it is given weights."""

    def __init__(self, folder: Path, dtype: torch.dtype, room: Room, device: torch.device) -> None:
        """Collective; UserError where vLLM is not there or cannot run the model in `folder`."""
        self._gpu = device.type == "cuda"
        self._ranks = room.ranks
        self._group = None if room.ranks == 1 else _neighbours_all(room.ranks)
        self._number = 0
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM

            self._engine: Any = LLM(
                model=str(folder),
                # Weights come from training, and text is the caller's concern.
                load_format="dummy",
                skip_tokenizer_init=True,
                dtype=str(dtype).removeprefix("torch."),
                max_model_len=room.tokens,
                max_num_seqs=room.at_once,
                # It runs among the ranks that are there.
                distributed_executor_backend="external_launcher",
                tensor_parallel_size=room.ranks,
                gpu_memory_utilization=room.memory,
                enable_sleep_mode=self._gpu,
                enforce_eager=not self._gpu,
                # Of the distribution that tokens are drawn from: after the temperature.
                logprobs_mode="processed_logprobs",
                disable_log_stats=True,
                # The same on all ranks that share an engine; answers are drawn by seeds of their own.
                seed=0,
            )
        except ImportError as error:
            remedy = "install it in the environment of the job, or set objective.options.sampler=transformers"
            raise UserError(Problem(where=KEY, message=f"vLLM is not there ({error})", remedy=remedy)) from error
        except (ValueError, RuntimeError) as error:
            # Not enough memory, or a family that it does not know.
            remedy = f"objective.options.vllm_memory (now {room.memory:g}), or objective.options.sampler=transformers"
            said = f"vLLM cannot run {folder}: {str(error).strip().splitlines()[-1]}"
            raise UserError(Problem(where=KEY, message=said, remedy=remedy)) from error
        self.sleep()

    def wake(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take `weights`, by the names of the model's files and one after another; ready to answer."""
        if self._gpu:
            torch.cuda.empty_cache()
            self._engine.wake_up(tags=["weights"])
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if self._gpu:
            self._engine.wake_up(tags=["kv_cache"])
        # What was kept of prompts came from other weights.
        self._engine.reset_prefix_cache()

    def sleep(self) -> None:
        """Let go of the GPU's memory; weights wait in the host's until they are replaced."""
        if self._gpu:
            self._engine.sleep(level=1)

    def answers(
        self,
        prompts: Sequence[Asked],
        *,
        ends: Sequence[int],
        temperature: float,
        before_step: Callable[[], None],
    ) -> list[Answer]:
        """An answer to each prompt, its end token included; collective among ranks that share an engine.

        At temperature 0 the likeliest token is taken, else each answer is drawn with its key as the seed.
        """
        from vllm import SamplingParams

        everybody = self._together(prompts)
        names = [str(self._number + place) for place in range(len(everybody))]
        self._number += len(everybody)
        engine, said = self._engine.llm_engine, dict[str, Any]()
        for name, prompt in zip(names, everybody, strict=True):
            asked = SamplingParams(
                temperature=temperature,
                seed=prompt.key & (2**63 - 1),
                max_tokens=prompt.most,
                stop_token_ids=list(ends),
                ignore_eos=True,
                logprobs=0,
                detokenize=False,
            )
            engine.add_request(name, {"prompt_token_ids": prompt.ids.tolist()}, asked)
        while engine.has_unfinished_requests():
            before_step()
            for output in engine.step():
                if output.finished:
                    said[output.request_id] = output.outputs[0]
        first = 0 if self._group is None else dist.get_rank(self._group) * len(prompts)
        return [_answer(said[name]) for name in names[first : first + len(prompts)]]

    def _together(self, prompts: Sequence[Asked]) -> list[Asked]:
        """The prompts of all ranks that share an engine, in the same order on each; each rank has as many."""
        if self._group is None:
            return list(prompts)
        found: list[Any] = [None] * self._ranks
        dist.all_gather_object(found, list(prompts), group=self._group)
        return [prompt for rank in found for prompt in rank]


def _neighbours_all(ranks: int) -> Any:
    """This rank's group of so many neighbours; collective."""
    whole = range(0, dist.get_world_size(), ranks)
    return dist.new_subgroups_by_enumeration([list(range(first, first + ranks)) for first in whole])[0]  # type: ignore[no-untyped-call]


def _answer(output: Any) -> Answer:
    ids: AnyArray = np.array(output.token_ids, dtype=np.int64)
    logps = [of[token].logprob for of, token in zip(output.logprobs, output.token_ids, strict=True)]
    return Answer(ids=ids, logps=np.array(logps, dtype=np.float32))
