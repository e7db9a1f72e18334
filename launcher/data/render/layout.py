"""What a template makes of a sequence of roles, found once for all conversations that have it.

Owns the comparison of a rendering with what was seen before. Must not know how messages are found, which costs several
renderings: a conversation whose rendering is the known frame with its own words in it, character by character, needs
no search of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from launcher.data.formats import Conversation, Message
from launcher.data.reject import RowError
from launcher.data.render.template import ChatTemplate, Span


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The template's own text around the words of some roles, and which of it belongs to the messages sought."""

    pieces: tuple[str, ...]
    """Before the first message's words, between each two, and after the last."""
    margins: tuple[tuple[int, int, int], ...]
    """Per message sought: its place, and how many characters before and after its words belong to it."""

    def spans(self, words: Sequence[str], text: str) -> list[Span] | None:
        """Where in `text` the messages are, if it is these pieces around `words`, as they are or stripped."""
        contents = words
        if self._around(contents) != text:
            # Llama's and Gemma's templates strip what is said.
            contents = [content.strip() for content in words]
            if self._around(contents) != text:
                return None
        starts, at = [], 0
        for piece, content in zip(self.pieces, contents, strict=False):
            starts.append(at + len(piece))
            at += len(piece) + len(content)
        return [(starts[turn] - low, starts[turn] + len(contents[turn]) + high) for turn, low, high in self.margins]

    def _around(self, contents: Sequence[str]) -> str:
        pairs = zip(self.pieces, contents, strict=False)
        return "".join([part for pair in pairs for part in pair]) + self.pieces[-1]


def lay_out(
    template: ChatTemplate,
    find: Callable[[Conversation, int, str], Span],
    roles: tuple[str, ...],
    turns: tuple[int, ...],
) -> Layout | None:
    """The layout of conversations of these roles; None where their words cannot be told from the frame.

    `find` gives the span of a message in a conversation's rendering, or raises RowError.
    """
    words = [f"launcher-words-77b0d2-{place}-" for place in range(len(roles))]
    messages = (Message(role=role, content=content) for role, content in zip(roles, words, strict=True))
    row = Conversation(messages=tuple(messages))
    try:
        text = template.render(row)
        found = {turn: find(row, turn, text) for turn in turns}
    except RowError:
        return None
    pieces, rest = [], text
    for content in words:
        piece, seen, rest = rest.partition(content)
        if not seen:
            return None
        pieces.append(piece)
    pieces.append(rest)
    margins = []
    for turn, (start, end) in found.items():
        at = text.index(words[turn])
        low, high = at - start, end - at - len(words[turn])
        if not (0 <= low <= len(pieces[turn]) and 0 <= high <= len(pieces[turn + 1])):
            return None
        margins.append((turn, low, high))
    return Layout(pieces=tuple(pieces), margins=tuple(margins))
