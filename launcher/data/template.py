"""From a conversation to tokens, and which of them carry loss.

Owns rendering and the loss mask. Must not know files, lines or lengths; works without torch.

Most chat templates do not mark what the assistant said, so the mask is found by rendering: a turn's text is what its
rendering adds to the prompt before it. The whole conversation is then tokenised once, as inference would, and a token
is trained when it covers any character of an assistant turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

import jinja2

from launcher.data.formats import Conversation, Message, PlainText
from launcher.data.reject import RowError
from launcher.data.tokenizer import load_tokenizer
from launcher.errors import Problem, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Span = tuple[int, int]

# Llama-3.x templates print today's date unless they are given one; the same row must give the same tokens tomorrow.
# This is the date that Meta's own template falls back to.
_DATE = "26 Jul 2024"
# Stands for what is said when only the frame that a template puts around it is wanted.
_PROBE = "launcher-probe-5e9c1f"


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """One row as tokens."""

    ids: list[int]
    """Token ids."""
    trained: list[bool]
    """Per token: whether it carries loss. Never the one at position 0, since nothing predicts it."""


class Encoder:
    """Renders and tokenises conversations with one tokenizer, whose chat template is the one that counts."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, chat_template: str | None = None) -> None:
        """`chat_template` only names, in errors, the file that the tokenizer's template came from."""
        self._name = chat_template or f"the chat template of {tokenizer.name_or_path!r}"
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._specials = tuple(token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
        self._has_template = bool(tokenizer.chat_template)
        self._prompts_for_turns = "add_generation_prompt" in str(tokenizer.chat_template)
        self._adds_bos = self._backend.encode("").ids[:1] == [tokenizer.bos_token_id]

    def encode(self, conversation: Conversation) -> Encoded:
        """Tokens and loss mask of one row.

        Raises RowError where this row cannot be rendered or no token of it would be trained, and UserError where no
        row could be: no chat template, one that does not parse, no end-of-sequence token.
        """
        if conversation.messages and self._has_template:
            encoded = self._chat(conversation.messages, conversation.first_trained)
        elif conversation.plain is not None:
            encoded = self._plain(conversation.plain)
        else:
            self._refuse("has no chat template, but the rows are messages")
        trained = [False, *encoded.trained[1:]]
        if not any(trained):
            raise RowError(f"no token of this row would be trained: {self._name} leaves nothing of what is said")
        return Encoded(ids=encoded.ids, trained=trained)

    def _chat(self, messages: Sequence[Message], first_trained: int) -> Encoded:
        final = self._render(messages)
        turns = [i for i, message in enumerate(messages) if message.role == "assistant" and i >= first_trained]
        spans = [self._span(messages, turn, final) for turn in turns]
        encoding = self._backend.encode(final, add_special_tokens=False)
        return Encoded(ids=encoding.ids, trained=_covers(encoding.offsets, spans))

    def _plain(self, text: PlainText) -> Encoded:
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        if eos is None:
            remedy = 'set "eos_token" in its tokenizer_config.json'
            message = f"the tokenizer {self._tokenizer.name_or_path!r} has no end-of-sequence token"
            raise UserError(Problem(where="model.path", message=message, remedy=remedy))
        whole = text.prompt + text.completion
        encoding = self._backend.encode(whole, add_special_tokens=False)
        ids, trained = encoding.ids, _covers(encoding.offsets, [(len(text.prompt), len(whole))])
        if self._adds_bos and ids[:1] != [bos]:
            ids, trained = [bos, *ids], [False, *trained]
        if ids[-1:] != [eos]:
            ids, trained = [*ids, eos], [*trained, True]
        return Encoded(ids=ids, trained=trained)

    def _span(self, messages: Sequence[Message], turn: int, final: str) -> Span:
        """The characters of `final` that the assistant says at `turn`, up to and with the end-of-turn token."""
        start, end = self._start(messages, turn, final), self._end(messages, turn, final)
        if end < start:
            self._refuse_row(turn)
        # A template may cut an old thought out of the words; one that drops all words must not go unseen.
        if messages[turn].content.strip() not in final[start:end]:
            self._frame(messages, turn)
        return start, end

    def _start(self, messages: Sequence[Message], turn: int, final: str) -> int:
        """Where the assistant begins to speak: after the generation prompt."""
        prompt = self._render(messages[:turn], add_generation_prompt=True) if turn > 0 else ""
        if prompt and self._prompts_for_turns and final.startswith(prompt):
            return len(prompt)
        # The template knows no generation prompt, or one that the finished turn does not keep (an opened <think>).
        before, _ = self._frame(messages, turn)
        if not final.startswith(before):
            self._refuse_row(turn)
        # Mistral's turns need no header: the space before the first word is the assistant's own.
        if prompt and before.startswith(prompt) and not before[len(prompt) :].strip():
            return len(prompt)
        return len(before)

    def _end(self, messages: Sequence[Message], turn: int, final: str) -> int:
        """Where the assistant's turn is over: after the end-of-turn token."""
        full = final if turn + 1 == len(messages) else self._render(messages[: turn + 1])
        if final.startswith(full):
            # What follows the end-of-turn token is never generated, so it is not learnt; without such a token the
            # line break itself may be the end of the turn.
            said = full.rstrip()
            return len(said) if said.endswith(self._specials) else len(full)
        # Qwen3 renders the last turn unlike earlier ones, gpt-oss ends it with another token, Phi-3 adds one after it.
        _, between = self._frame(messages, turn)
        before_next, _ = self._frame(messages, turn + 1)
        ends = [between.find(token) + len(token) for token in self._specials if token in between]
        if not (ends and final.startswith(before_next) and before_next.endswith(between)):
            self._refuse_row(turn)
        return len(before_next) - len(between) + min(ends)

    def _frame(self, messages: Sequence[Message], turn: int) -> tuple[str, str]:
        """What the template puts before the words of `turn`, and after them up to the words of the next turn."""
        probes = [replace(message, content=_PROBE) for message in messages[turn : turn + 2]]
        parts = self._render([*messages[:turn], *probes]).split(_PROBE)
        if len(parts) != len(probes) + 1:
            self._refuse_row(turn)
        return parts[0], parts[1]

    def _render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=add_generation_prompt, date_string=_DATE
            )
        except jinja2.TemplateSyntaxError as error:
            self._refuse(f"has a chat template that is not Jinja: line {error.lineno}: {error.message}")
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise RowError(f"{self._name} refuses this conversation: {error}") from error
        assert isinstance(text, str), "one conversation renders to one text"
        return text

    def _refuse(self, reason: str) -> NoReturn:
        raise UserError(
            Problem(
                where="data.chat_template",
                message=f"the tokenizer {self._tokenizer.name_or_path!r} {reason}",
                valid="the path of a Jinja chat template, or a tokenizer that brings one",
                remedy='set data.chat_template=FILE.jinja, or use rows of plain "prompt" and "completion"',
            )
        )

    def _refuse_row(self, turn: int) -> NoReturn:
        raise RowError(
            f"{self._name} rewrites message {turn} or leaves it out, so that the assistant's tokens cannot be "
            "told from the rest; a template that renders each turn alike (data.chat_template) would do"
        )


def load_encoder(tokenizer: str, chat_template: str | None) -> Encoder:
    """The encoder of a `DataSpec`'s tokenizer and chat template; UserError as `load_tokenizer`."""
    return Encoder(load_tokenizer(tokenizer, chat_template), chat_template)


def _covers(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Per token, whether it covers a character of one of `spans` (ascending, apart from each other).

    Byte-level tokenizers leave leading spaces out of a token's offsets, so a token is taken to begin where the text
    before it ended.
    """
    covered = [False] * len(offsets)
    reach, number = 0, 0
    for place, (start, end) in enumerate(offsets):
        low = min(start, reach)
        reach = max(reach, end)
        while number < len(spans) and spans[number][1] <= low:
            number += 1
        if number == len(spans):
            break
        covered[place] = low < spans[number][1] and (end > spans[number][0] or low >= spans[number][0])
    return covered
