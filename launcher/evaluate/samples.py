"""The model's answers to fixed prompts, word for word: what a loss does not tell.

Owns asking and the file of answers. Each rank answers its share of the prompts, one at a time, so that no answer
depends on the number of ranks; every answer is the likeliest token after token, and uses up no random number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from launcher.data.render.tokenizer import load_tokenizer
from launcher.errors import LauncherError, Problem, UserError
from launcher.models.generation import ends_of_model, ends_of_tokenizer
from launcher.publish import append_record
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.train.agree import from_rank0

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """The prompts of a run, as its model reads them; the same on every rank."""

    ids: tuple[tuple[int, ...], ...]
    """Tokens of each."""
    ends: tuple[int, ...]
    """Tokens after which an answer is over."""
    most: int
    """Tokens of an answer, at most."""


class Interview:
    """Asks the model of a run again and again."""

    def __init__(self, run: RunDir, plan: RunPlan, attempt: int, device: torch.device) -> None:
        """Collective; UserError where a prompt cannot be asked."""
        self._run, self._attempt, self._device = run, attempt, device
        self._texts: list[str] = plan.config.evaluate.prompts
        self._tokenizer: PreTrainedTokenizerFast | None = None

        def tokenised() -> Asked | tuple[Problem, ...]:
            try:
                self._tokenizer = load_tokenizer(os.environ["LAUNCHER_MODEL"], plan.train_data.chat_template)
                return asked(self._tokenizer, plan)
            except LauncherError as error:
                # Raised here, on all ranks, and not on one that the others would wait for.
                return error.problems

        told = from_rank0(tokenised)
        if not isinstance(told, Asked):
            raise UserError(*told)
        self._asked = told

    def ask_all(self, engine: Any, step: int, before_pass: Callable[[], None], stopped: Callable[[], bool]) -> bool:
        """Have all prompts answered after `step` optimiser steps, and write the answers; collective.

        `stopped` (collective, too) is asked before every round of the ranks; False if it says so.
        """
        found = answers_all(engine, self._asked, self._device, before_pass, stopped)
        if found is None:
            return False
        if dist.get_rank() == 0:
            self._write_rank0(step, found)
        return True

    def _write_rank0(self, step: int, found: list[list[int]]) -> None:
        assert self._tokenizer is not None
        try:
            for text, ids in zip(self._texts, found, strict=True):
                answer = str(self._tokenizer.decode(ids, skip_special_tokens=True))
                record = {"step": step, "prompt": text, "answer": answer, "attempt": self._attempt}
                append_record(self._run.samples, record)
        except OSError as error:
            # Training outlives a full disk, and these answers are no part of it.
            print(f"samples.jsonl takes no more ({error.strerror}); the answers at step {step} are lost", flush=True)


def asked(tokenizer: PreTrainedTokenizerFast, plan: RunPlan) -> Asked:
    """The prompts as a user's turn each, where the tokenizer has a chat template, else as they are.

    UserError for one that is longer than `data.seq_len` or that the template refuses.
    """
    ids = []
    for number, text in enumerate(plan.config.evaluate.prompts):
        where = f"evaluate.prompts[{number}]"
        try:
            mine = _tokens(tokenizer, text)
        except Exception as error:  # a template may raise anything
            message = f"{text!r} cannot be asked: {type(error).__name__}: {error}"
            raise UserError(Problem(where=where, message=message)) from error
        if not 0 < len(mine) <= plan.config.data.seq_len:
            valid = f"1 to data.seq_len={plan.config.data.seq_len}"
            raise UserError(Problem(where=where, message=f"{text!r} is {len(mine)} tokens", valid=valid))
        ids.append(tuple(mine))
    ends = tuple(sorted(ends_of_tokenizer(tokenizer)))
    return Asked(ids=tuple(ids), ends=ends, most=plan.config.evaluate.max_new_tokens)


def _tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    if tokenizer.chat_template is None:
        return list(tokenizer(text)["input_ids"])
    turns = [{"role": "user", "content": text}]
    shown = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    # The template prints the special tokens itself.
    return list(tokenizer(shown, add_special_tokens=False)["input_ids"])


def answers_all(
    engine: Any, asked: Asked, device: torch.device, before_pass: Callable[[], None], stopped: Callable[[], bool]
) -> list[list[int]] | None:
    """The tokens of every answer, on every rank; collective. None where `stopped` said so.

    `before_pass` is called before every forward pass.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    # Partitioned weights come together in every forward pass: all ranks make as many as the longest answer needs.
    together = engine.zero_optimization_stage() == 3
    found = torch.zeros((len(asked.ids), asked.most), dtype=torch.int64, device=device)
    engine.eval()
    try:
        with torch.no_grad(), _before_passes(engine.module, before_pass):
            for first in range(0, len(asked.ids), size):
                if stopped():
                    return None
                mine = first + rank
                if mine < len(asked.ids):
                    ids = _generate(engine.module, asked, asked.ids[mine], asked.most, device, together=together)
                    # One more, so that 0 stays the mark of no token.
                    found[mine, : len(ids)] = ids + 1
                elif together:
                    _generate(engine.module, asked, asked.ids[first], 1, device, together=True)
    finally:
        engine.train()
    # Every answer is one rank's; the others add nothing to it.
    dist.all_reduce(found)
    return [[token - 1 for token in row if token] for row in found.tolist()]


def _generate(
    model: Any, asked: Asked, ids: tuple[int, ...], most: int, device: torch.device, *, together: bool
) -> torch.Tensor:
    """The likeliest tokens that follow, int64 [at most `most`]."""
    from transformers import GenerationConfig

    given = torch.tensor([ids], dtype=torch.int64, device=device)
    ends = {*asked.ends, *ends_of_model(model)}
    # What is not said here comes from the model's own file, which may want dice or a penalty.
    how = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        max_new_tokens=most,
        eos_token_id=sorted(ends) or None,
        pad_token_id=min(ends, default=0),
        use_cache=True,
    )
    answer: torch.Tensor = model.generate(
        input_ids=given, attention_mask=torch.ones_like(given), generation_config=how, synced_gpus=together
    )
    return answer[0, len(ids) :]


@contextmanager
def _before_passes(model: torch.nn.Module, call: Callable[[], None]) -> Iterator[None]:
    """Have `call` called before every forward pass: under ZeRO-3 a rank that is done makes them for the others, and
    nothing else of it runs.
    """
    handle = model.register_forward_pre_hook(lambda module, inputs: call())
    try:
        yield
    finally:
        handle.remove()
