"""Prompts with answers: one answer, one and what was thought of it, or a better and a worse one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.data.formats.messages import require_assistant, turns
from launcher.data.formats.shapes import Conversation, Judged, Message, PlainText, Preference, text_of
from launcher.data.reject import RowError

# Taori et al., Stanford Alpaca, 2023; the line break after "### Response:" is Alpaca-LoRA's, so that a prompt ends
# on a token of its own.
_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_ALPACA_WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)

_VERDICTS = {"true": True, "good": True, "1": True, "false": False, "bad": False, "0": False}


def read_prompt_completion(row: Mapping[str, Any]) -> Conversation:
    """{"prompt", "completion"}, both text or both lists of messages."""
    return _answered(row, "completion")


def read_judged(row: Mapping[str, Any]) -> Judged:
    """{"prompt", "completion", "label"}: true or false, 1 or 0; or, in tables, these or good and bad as text."""
    label = row["label"]
    good = _VERDICTS.get(str(label).strip().lower()) if isinstance(label, bool | int | str) else None
    if good is None:
        valid = "true for a good answer, false for a bad one"
        raise RowError(f'"label" says {label!r}, which is neither good nor bad', valid=valid)
    return Judged(conversation=_answered(row, "completion"), good=good)


def read_alpaca(row: Mapping[str, Any]) -> Conversation:
    """{"instruction", "output"}, perhaps with "input": turns, and the classic text."""
    instruction, output = text_of(row, "instruction"), text_of(row, "output")
    context = text_of(row, "input") if row.get("input") is not None else ""
    prompt = _ALPACA_WITH_INPUT if context else _ALPACA_WITHOUT_INPUT
    question = f"{instruction}\n\n{context}" if context else instruction
    return Conversation(
        messages=(Message(role="user", content=question), Message(role="assistant", content=output)),
        plain=PlainText(prompt=prompt.format(instruction=instruction, input=context), completion=output),
    )


def read_preference(row: Mapping[str, Any]) -> Preference:
    """{"prompt", "chosen", "rejected"}, or two whole conversations that begin alike.

    A prompt in text may stand beside conversations that repeat it, as in UltraFeedback; it then says nothing new.
    """
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if isinstance(chosen, list) != isinstance(rejected, list):
        raise RowError('"chosen" and "rejected" must both be text or both be lists of messages')
    if not isinstance(chosen, list):
        if prompt is None:
            raise RowError('"chosen" and "rejected" are text, so a "prompt" is needed')
        return Preference(chosen=_answered(row, "chosen"), rejected=_answered(row, "rejected"))
    if isinstance(prompt, list):
        return Preference(chosen=_answered(row, "chosen"), rejected=_answered(row, "rejected"))
    better, worse = turns(chosen, "chosen"), turns(rejected, "rejected")
    if isinstance(prompt, str) and better[0].role == worse[0].role == "assistant":
        question = Message(role="user", content=prompt)
        better, worse = (question, *better), (question, *worse)
    shared = _shared(better, worse)
    for field, messages in (("chosen", better), ("rejected", worse)):
        require_assistant(messages[shared:], field)
    return Preference(
        chosen=Conversation(messages=better, first_trained=shared),
        rejected=Conversation(messages=worse, first_trained=shared),
    )


def _shared(better: tuple[Message, ...], worse: tuple[Message, ...]) -> int:
    """How many turns both begin with."""
    shared = 0
    for one, other in zip(better, worse, strict=False):
        if one != other:
            break
        shared += 1
    if not shared:
        raise RowError('"chosen" and "rejected" have no common beginning, and there is no "prompt"')
    if better == worse:
        raise RowError('"chosen" and "rejected" are the same')
    return shared


def _answered(row: Mapping[str, Any], field: str) -> Conversation:
    prompt, answer = row["prompt"], row[field]
    if isinstance(prompt, list) and isinstance(answer, list):
        context, said = turns(prompt, "prompt"), turns(answer, field)
        require_assistant(said, field)
        return Conversation(messages=context + said, first_trained=len(context))
    if isinstance(prompt, list) or isinstance(answer, list):
        raise RowError(f'"prompt" and "{field}" must both be text or both be lists of messages')
    return Conversation(plain=PlainText(prompt=text_of(row, "prompt"), completion=text_of(row, field)))
