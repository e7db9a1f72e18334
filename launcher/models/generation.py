"""A model answers: token after token, for a batch of prompts, with random numbers that no generator has to remember.

Owns the drawing of tokens and when an answer ends. Must not know what the answers are for, nor who asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from launcher.data.tokens import AnyArray
from launcher.errors import Problem, UserError

_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One prompt."""

    ids: AnyArray
    """Its tokens; at least one."""
    most: int
    """Longest answer, in tokens."""
    key: int
    """Names the random numbers of this answer: the same key draws the same tokens, wherever and with whomever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was said to one prompt."""

    ids: AnyArray
    """Its tokens, end token included; int64."""
    logps: AnyArray | None = None
    """Log-probability of each where it was drawn, float32; None where the model that trains drew it itself."""


def ends_of_model(model: Any) -> set[int]:
    """What ends an answer, by the model's config for generating and its config."""
    found: set[int] = set()
    for owner in (getattr(model, "generation_config", None), model.config):
        told = getattr(owner, "eos_token_id", None)
        if told is not None:
            found |= set(told) if isinstance(told, list | tuple) else {told}
    return found


def ends_of_tokenizer(tokenizer: Any) -> set[int]:
    """What ends an answer, by the tokenizer and its chat template."""
    own = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    return own | set(behind_answer(tokenizer)[:1])


def behind_answer(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that the chat template puts behind an answer: the one that ends a turn, often another than the
    tokenizer's end, and what follows it. None where there is no template, or no special token there.
    """
    if tokenizer.chat_template is None:
        return ()
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    try:
        shown = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template that insists on more than that says nothing of its ends
        return ()
    behind: list[int] = tokenizer(shown.rpartition("!")[2].lstrip(), add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return tuple(behind) if behind and behind[0] in special else ()


def end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """What ends an answer, by the model, the tokenizer and its chat template; UserError if nothing."""
    found = ends_of_model(model) | ends_of_tokenizer(tokenizer)
    if not found:
        message = "neither the model nor its tokenizer names a token that ends an answer"
        raise UserError(Problem(where="model.path", message=message, remedy='set "eos_token" in tokenizer_config.json'))
    return tuple(sorted(found))


def answers(
    engine: Any,
    prompts: Sequence[Asked],
    *,
    ends: Sequence[int],
    temperature: float,
    together: bool,
    device: torch.device,
    before_forward: Callable[[], None],
) -> list[AnyArray]:
    """An answer to each prompt, its end token included, as int64; `engine` is in evaluation mode.

    At temperature 0 the likeliest token is taken. `together`: each forward pass is collective (parameters are gathered
    for it), so that a rank goes on until the last one is done; all ranks call this equally often then.
    """
    width = max(len(prompt.ids) for prompt in prompts)
    padded = np.zeros((len(prompts), width), dtype=np.int64)
    mask = torch.zeros(len(prompts), width, dtype=torch.int64, device=device)
    for place, prompt in enumerate(prompts):
        # On the left: what comes next must be the neighbour of what was said.
        padded[place, width - len(prompt.ids) :] = prompt.ids
        mask[place, width - len(prompt.ids) :] = 1
    fed = torch.from_numpy(padded).to(device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    most = torch.tensor([prompt.most for prompt in prompts], device=device)
    keys = torch.tensor([prompt.key for prompt in prompts], device=device)
    stopping = torch.tensor(list(ends), device=device)
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    said: list[Tensor] = []
    few = {"logits_to_keep": 1} if engine.module._supports_logits_to_keep() else {}
    cache: Any = None
    with torch.no_grad():
        while True:
            before_forward()
            output = engine(
                input_ids=fed,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                **few,
            )
            cache = output.past_key_values
            tokens = drawn(output.logits[:, -1], keys, len(said), temperature)
            said.append(tokens.where(~done, -1))
            done = done | torch.isin(tokens, stopping) | (len(said) >= most)
            if _finished(done, together=together):
                break
            fed = tokens[:, None]
            mask = torch.cat([mask, torch.ones_like(fed)], dim=1)
            # A row that is done only keeps its neighbours company; its positions stay within what the model knows.
            positions = positions[:, -1:] + (~done[:, None]).long()
    found: AnyArray = torch.stack(said, dim=1).cpu().numpy()
    return [row[row >= 0] for row in found]


def _finished(done: Tensor, *, together: bool) -> bool:
    waiting = (~done).sum()
    if together:
        dist.all_reduce(waiting)
    return int(waiting) == 0


def drawn(logits: Tensor, keys: Tensor, place: int, temperature: float) -> Tensor:
    """A token for each row of `logits` [rows, vocabulary], as token number `place` of the answers with these keys.

    Drawn with probabilities softmax(logits / temperature), by Gumbel's trick (argmax of logits / temperature plus
    noise), whose noise is a hash of (key, place, token): no state, and the same on every device.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    vocabulary = torch.arange(logits.shape[-1], device=logits.device)
    state = _mixed(_mixed(keys) + place)[:, None]
    # 53 bits, which a double holds exactly; never 0 or 1.
    uniform = (_shifted(_mixed(state + vocabulary), 11).double() + 0.5) * 2.0**-53
    noise = -torch.log(-torch.log(uniform))
    # Divided as the loss does.
    return ((logits.float() / temperature).double() + noise).argmax(dim=-1)


def _mixed(values: Tensor) -> Tensor:
    """The splitmix64 finaliser (Steele, Lea & Flood, OOPSLA 2014), element by element; int64 wraps like uint64."""
    values = values + _signed(_GOLDEN)
    values = (values ^ _shifted(values, 30)) * _signed(_FIRST)
    values = (values ^ _shifted(values, 27)) * _signed(_SECOND)
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shifted to the right with zeros, as of an unsigned number."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
