"""What can be wrong with a row that reads well: turns out of order, nothing said, text decoded wrongly before.

Pure and cheap, a few searches over each text. Must not know what a config does about it.
"""

from __future__ import annotations

import re

from launcher.data.formats import Conversation

# White space, and characters that take no space at all.
_WORD = re.compile("[^\\s\u200b\u200c\u200d\u2060\ufeff]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
_ASCII_TEXT = bytes(code for code in range(128) if not _CONTROL.match(chr(code)))
# UTF-8 read as Windows-1252: é is Ã©, a no-break space Â and itself, ’ is â€™, a smile ðŸ˜Š. Pairs that also end a word
# in capitals before a quotation mark are left out.
_MOJIBAKE = re.compile("Ã[¡-ª¬-º¼-¿]|Â[\u00a0-ª¬-º¼-¿]|â€|ï»¿|ðŸ")
_AROUND_CHARS = 12


def order_fault(conversation: Conversation) -> str | None:
    """Why the turns are out of order; None where they are not."""
    messages = conversation.messages
    if not messages:
        return None
    called = any(message.tool_calls for message in messages)
    for place, message in enumerate(messages):
        role = message.role
        before = messages[place - 1].role if place else None
        if role == "system" and place > 0:
            return f"message {place} is a system message, which only the first may be"
        if role == "user" and before == "user":
            return f"messages {place - 1} and {place} are both the user's"
        if role == "assistant" and before not in ("user", "tool"):
            return f"message {place} is an answer to nobody"
        # Some data sets write the calls into the text.
        asked = before == "tool" or (before == "assistant" and (messages[place - 1].tool_calls or not called))
        if role == "tool" and not asked:
            return f"message {place} is a tool's result that nobody asked for"
    if messages[-1].role != "assistant":
        return f"the last message is not the assistant's but the {messages[-1].role}'s"
    return None


def empty_fault(conversation: Conversation) -> str | None:
    """Which prompt or answer says nothing; None where all do."""
    for place, message in enumerate(conversation.messages):
        if message.role in ("user", "assistant") and not message.tool_calls and not _WORD.search(message.content):
            return f"message {place}, the {message.role}'s, is empty"
    plain = conversation.plain
    if plain is not None and not conversation.messages and not _WORD.search(plain.completion):
        return "the completion is empty" if plain.prompt else "the text is empty"
    return None


def encoding_fault(conversation: Conversation) -> str | None:
    """What says that a text was decoded wrongly before; None where nothing does."""
    for text in _texts(conversation):
        # Several times as fast as a search, and nearly all there is.
        if text.isascii() and not text.encode().translate(None, _ASCII_TEXT):
            continue
        found = _CONTROL.search(text) or _MOJIBAKE.search(text)
        if found is not None:
            signs = " ".join(f"U+{ord(char):04X}" for char in found.group())
            around = text[max(0, found.start() - _AROUND_CHARS) : found.end() + _AROUND_CHARS]
            return f"{signs} in {around!r}: the text was decoded wrongly before"
    return None


def _texts(conversation: Conversation) -> list[str]:
    if conversation.messages or conversation.plain is None:
        return [message.content for message in conversation.messages]
    return [conversation.plain.prompt, conversation.plain.completion]
