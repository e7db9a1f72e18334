"""One chat template, compiled once: what it makes of a conversation.

Owns the shape in which templates expect messages, calls and their results, and the words for a template that does not
parse or refuses. Must not know tokens or which of them carry loss.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import jinja2

from launcher.data.formats import Conversation, Message
from launcher.data.reject import RowError, Step
from launcher.errors import Problem, UserError

Span = tuple[int, int]

# Llama-3.x and gpt-oss print today's date; the same row must give the same tokens tomorrow. This is the date that
# Meta's own template falls back to.
_DAY = date(2024, 7, 26)
_PROBE_CALL = "launcher_probe_5e9c1f"


class ChatTemplate:
    """Renders conversations; every error names the template as `name`."""

    def __init__(self, text: str, special_tokens: Mapping[str, str], name: str) -> None:
        """`special_tokens` are what the template may print by name, such as `eos_token`."""
        self.name = name
        self.prompts_for_turns = "add_generation_prompt" in text
        """Whether it can print what comes before an answer, without the answer."""
        self.marks_answers = "endgeneration" in text
        """Whether it says by itself what the assistant generates."""
        self._text = text
        self._names = {
            **special_tokens,
            "date_string": _DAY.strftime("%d %b %Y"),
            "strftime_now": _DAY.strftime,
        }

    def render(self, row: Conversation, *, add_generation_prompt: bool = False) -> str:
        """The conversation as text; RowError where the template refuses it, UserError where it is not Jinja."""
        names = self._arguments(row, add_generation_prompt=add_generation_prompt)
        try:
            return self._compiled.render(names)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise RowError(f"{self.name} refuses this conversation: {error}", step=Step.template) from error

    def render_marked(self, row: Conversation) -> tuple[str, list[Span]]:
        """The same, and the characters that the template marks as generated; one span for each marked block."""
        parts: list[str] = []
        marked: list[Span] = []
        try:
            # transformers' own extension, which notes where each {% generation %} block begins and ends.
            with self._compiled.environment.activate_tracker(parts, marked):  # type: ignore[attr-defined]
                for part in self._compiled.generate(self._arguments(row)):
                    parts.append(part)
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise RowError(f"{self.name} refuses this conversation: {error}", step=Step.template) from error
        return "".join(parts), marked

    def _arguments(self, row: Conversation, *, add_generation_prompt: bool = False) -> dict[str, Any]:
        calls = any(message.tool_calls for message in row.messages)
        return {
            **self._names,
            "messages": _turns(row.messages, self._content_of_calls if calls else ""),
            "tools": list(row.tools) or None,
            "documents": list(row.documents) or None,
            "add_generation_prompt": add_generation_prompt,
        }

    @functools.cached_property
    def _compiled(self) -> jinja2.Template:
        # Private, but the only way to have transformers' sandbox, filters and whitespace rules without its copy of
        # every message on each rendering, which takes as long as the rendering itself.
        from transformers.utils.chat_template_utils import _compile_jinja_template

        try:
            compiled: jinja2.Template = _compile_jinja_template(self._text)
        except jinja2.TemplateSyntaxError as error:
            raise unusable(f"{self.name} is not Jinja: line {error.lineno}: {error.message}") from None
        return compiled

    @functools.cached_property
    def _content_of_calls(self) -> str | None:
        """What an assistant that only calls functions has as content: "", or None where calls vanish beside that.

        OpenAI's interface says null, but templates that join strings fail on it, so "" comes first. DeepSeek-V3's
        prints calls only beside null. One conversation decides for all, so that a row's tokens are its own affair.
        """
        call = {"name": _PROBE_CALL, "arguments": {}}
        turns = (Message(role="user", content="?"), Message(role="assistant", content="", tool_calls=(call,)))
        for content in ("", None):
            names = {**self._names, "messages": _turns(turns, content), "tools": None, "documents": None}
            try:
                if _PROBE_CALL in self._compiled.render(names):
                    return content
            except (jinja2.TemplateError, TypeError, ValueError):
                continue
        return ""


def without_context(row: Conversation) -> Conversation:
    """The conversation alone, without the functions and texts that it was given."""
    return replace(row, tools=(), documents=())


def unusable(message: str) -> UserError:
    """A template, or its lack, under which no row of messages can be used."""
    return UserError(
        Problem(
            where="data.chat_template",
            message=message,
            valid="the path of a Jinja chat template, or a tokenizer that brings one",
            remedy="set data.chat_template=FILE.jinja (${shipped:chat_templates/chatml.jinja} is one), "
            'or use rows of plain "prompt" and "completion"',
        )
    )


def _turns(messages: Sequence[Message], content_of_calls: str | None) -> list[dict[str, Any]]:
    """Messages as Hugging Face's templates expect them; a result is that of the earliest call that has none yet.

    Rows carry no ids of calls. Mistral's templates insist on nine letters or digits, others print whatever they get.
    """
    turns: list[dict[str, Any]] = []
    open_calls: list[dict[str, Any]] = []
    number = 0
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            functions = [{"name": call["name"], "arguments": call["arguments"]} for call in message.tool_calls]
            open_calls = [
                {"id": f"call{number + place:05d}", "type": "function", "function": function}
                for place, function in enumerate(functions)
            ]
            number += len(functions)
            turn["tool_calls"] = list(open_calls)
            turn["content"] = message.content or content_of_calls
        elif message.role == "tool" and open_calls:
            call = open_calls.pop(0)
            turn |= {"tool_call_id": call["id"], "name": call["function"]["name"]}
        turns.append(turn)
    return turns
