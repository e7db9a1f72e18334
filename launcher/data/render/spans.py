"""Where in a rendered conversation each message is: the characters that carry loss.

Owns the search. Must not know tokens, or which messages are trained.

Most chat templates do not mark what the assistant said, so it is found by rendering: a turn's text is what its
rendering adds to the prompt before it. Where that does not hold, a probe is put in the place of a message's words, and
what surrounds it is the frame.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import NoReturn

from launcher.data.formats import Conversation
from launcher.data.reject import RowError, Step
from launcher.data.render.layout import lay_out
from launcher.data.render.template import ChatTemplate, Span, without_context

# Stands for what is said when only the frame that a template puts around it is wanted.
_PROBE = "launcher-probe-5e9c1f"
_MOST_LAYOUTS = 1024


class SpanFinder:
    """Finds messages in what one template renders."""

    def __init__(self, template: ChatTemplate, end_tokens: tuple[str, ...]) -> None:
        """`end_tokens` are the tokenizer's special ones, among them those that end a turn."""
        self._template = template
        self._end_tokens = end_tokens
        self._layout = functools.lru_cache(maxsize=_MOST_LAYOUTS)(functools.partial(lay_out, template, self._span))

    def render(self, row: Conversation) -> str:
        """The conversation's text; RowError where the template leaves out what the row has."""
        text = self._template.render(row)
        self._require_shown(row, text)
        return text

    def find(self, row: Conversation, turns: tuple[int, ...]) -> tuple[str, list[Span]]:
        """The conversation's text, and where in it the messages `turns` are, ascending.

        An assistant's turn reaches from after the generation prompt up to and with the end-of-turn token, as it would
        be generated; the template's own {% generation %} marks decide where it has any. RowError where the template
        refuses the row, leaves out part of it, or gives no way to tell the turns from the rest.
        """
        if self._template.marks_answers and all(row.messages[turn].role == "assistant" for turn in turns):
            return self._marked(row, turns)
        text = self._template.render(row)
        if not (row.tools or row.documents or any(message.tool_calls for message in row.messages)):
            layout = self._layout(tuple(message.role for message in row.messages), turns)
            spans = None if layout is None else layout.spans([message.content for message in row.messages], text)
            if spans is not None:
                return text, spans
        self._require_shown(row, text)
        return text, [self._span(row, turn, text) for turn in turns]

    def _marked(self, row: Conversation, turns: tuple[int, ...]) -> tuple[str, list[Span]]:
        text, marked = self._template.render_marked(row)
        self._require_shown(row, text)
        answers = [place for place, message in enumerate(row.messages) if message.role == "assistant"]
        if list(turns) == answers:
            return text, marked
        if len(marked) == len(answers):
            return text, [marked[answers.index(turn)] for turn in turns]
        spans: list[Span] = []
        for turn in turns:
            first, last = self._marks_before(row, turn), self._marks_before(row, turn + 1)
            spans += marked[first:last]
        return text, spans

    def _marks_before(self, row: Conversation, turn: int) -> int:
        """How many marked blocks the messages before `turn` have."""
        return len(self._template.render_marked(replace(row, messages=row.messages[:turn]))[1]) if turn > 0 else 0

    def _span(self, row: Conversation, turn: int, text: str) -> Span:
        """The characters of `text` that are message `turn`."""
        if row.messages[turn].role != "assistant":
            return self._words(row, turn, text)
        start, end = self._start(row, turn, text), self._end(row, turn, text)
        calls = row.messages[turn].tool_calls
        if end < start or not all(call["name"] in text[start:end] for call in calls):
            self._refuse(turn)
        return start, end

    def _words(self, row: Conversation, turn: int, text: str) -> Span:
        """Of a message that is not the assistant's: its words, and a token that ends it."""
        before, after = self._frame(row, turn)
        content = row.messages[turn].content
        kept = next((words for words in (content, content.strip()) if text.startswith(before + words)), None)
        if kept is None:
            self._refuse(turn)
        end = len(before) + len(kept)
        token = max((token for token in self._end_tokens if after.startswith(token)), key=len, default="")
        return len(before), end + (len(token) if text.startswith(token, end) else 0)

    def _start(self, row: Conversation, turn: int, text: str) -> int:
        """Where the assistant begins to speak: after the generation prompt."""
        prompt = self._prefix(row, turn, text, add_generation_prompt=True)
        if prompt and self._template.prompts_for_turns:
            return len(prompt)
        if row.messages[turn].tool_calls:
            return self._start_of_calls(row, turn, text)
        # The template knows no generation prompt, or one that the finished turn does not keep (an opened <think>).
        before, _ = self._frame(row, turn)
        if not text.startswith(before):
            self._refuse(turn)
        # Mistral's turns need no header: the space before the first word is the assistant's own.
        if prompt and before.startswith(prompt) and not before[len(prompt) :].strip():
            return len(prompt)
        return len(before)

    def _start_of_calls(self, row: Conversation, turn: int, text: str) -> int:
        """The same where functions are called: after what calls and words have in common, a header."""
        said = replace(row.messages[turn], content=_PROBE, tool_calls=())
        spoken = self._contexts(replace(row, messages=(*row.messages[:turn], said)))
        start = max((_common(each.partition(_PROBE)[0], text) for each in spoken), default=0)
        earlier = self._prefix(row, turn, text)
        if earlier is None or start < len(earlier):
            self._refuse(turn)
        return start

    def _end(self, row: Conversation, turn: int, text: str) -> int:
        """Where the assistant's turn is over: after the end-of-turn token."""
        full = text if turn + 1 == len(row.messages) else self._prefix(row, turn + 1, text)
        if full is not None:
            # What follows the end-of-turn token is never generated, so it is not learnt; without such a token the
            # line break itself may be the end of the turn.
            said = full.rstrip()
            return len(said) if said.endswith(self._end_tokens) else len(full)
        # Qwen3 renders the last turn unlike earlier ones, gpt-oss ends it with another token, Phi-3 adds one after it.
        _, between = self._frame(row, turn)
        before_next, _ = self._frame(row, turn + 1)
        ends = [between.find(token) + len(token) for token in self._end_tokens if token in between]
        if not (ends and text.startswith(before_next) and before_next.endswith(between)):
            self._refuse(turn)
        return len(before_next) - len(between) + min(ends)

    def _prefix(self, row: Conversation, count: int, text: str, *, add_generation_prompt: bool = False) -> str | None:
        """The rendering of the first `count` messages, where `text` begins with it."""
        if count == 0:
            return ""
        part = replace(row, messages=row.messages[:count])
        renderings = self._contexts(part, add_generation_prompt=add_generation_prompt)
        return next((found for found in renderings if text.startswith(found)), None)

    def _contexts(self, row: Conversation, *, add_generation_prompt: bool = False) -> list[str]:
        """The row's rendering with its functions and documents, and the one without.

        Mistral puts the functions before the last question, so that earlier turns are rendered as if there were none.
        """
        rows = [row, without_context(row)] if row.tools or row.documents else [row]
        found = [self._attempt(each, add_generation_prompt=add_generation_prompt) for each in rows]
        return [rendering for rendering in found if rendering is not None]

    def _frame(self, row: Conversation, turn: int) -> tuple[str, str]:
        """What the template puts before the words of `turn`, and after them up to the words of the next turn."""
        probes = [replace(message, content=_PROBE, tool_calls=()) for message in row.messages[turn : turn + 2]]
        messages = (*row.messages[:turn], *probes, *row.messages[turn + 2 :])
        parts = (self._attempt(replace(row, messages=messages)) or "").split(_PROBE)
        if len(parts) != len(probes) + 1:
            self._refuse(turn)
        return parts[0], parts[1]

    def _require_shown(self, row: Conversation, text: str) -> None:
        """Refuse a rendering that lacks part of the row: the model would learn to answer what it cannot see."""
        called = [call["name"] for message in row.messages for call in message.tool_calls]
        if called:
            silent = replace(row, messages=tuple(replace(message, tool_calls=()) for message in row.messages))
            if not all(name in text for name in called) or self._attempt(silent) == text:
                self._refuse_part('"tool_calls"')
        if row.tools and self._attempt(replace(row, tools=())) == text:
            self._refuse_part('"tools"')
        if row.documents and self._attempt(replace(row, documents=())) == text:
            self._refuse_part('"documents"')
        for turn, message in enumerate(row.messages):
            # A template may cut an old thought out of the words, or escape them; one that drops all must not go unseen.
            if message.content.strip() not in text:
                probe = replace(message, content=_PROBE)
                messages = (*row.messages[:turn], probe, *row.messages[turn + 1 :])
                if _PROBE not in (self._attempt(replace(row, messages=messages)) or ""):
                    self._refuse_part(f"message {turn} ({message.role})")

    def _attempt(self, row: Conversation, *, add_generation_prompt: bool = False) -> str | None:
        """A rendering; None where the template refuses."""
        try:
            return self._template.render(row, add_generation_prompt=add_generation_prompt)
        except RowError:
            return None

    def _refuse_part(self, part: str) -> NoReturn:
        raise RowError(
            f"{self._template.name} leaves out the row's {part}, so the model would learn to do without",
            remedy=f"set data.chat_template to a template that prints {part}",
            step=Step.template,
        )

    def _refuse(self, turn: int) -> NoReturn:
        raise RowError(
            f"{self._template.name} rewrites message {turn} or leaves it out, so that the assistant's tokens cannot be "
            "told from the rest; a template that renders each turn alike (data.chat_template) would do",
            step=Step.template,
        )


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
