"""A row's words, and numbers that stand for runs of them.

Owns what counts as the same words. Must not know files, tokens or what the numbers are compared with.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import xxhash

from launcher.data.feed.order import UInt64Array
from launcher.data.formats import Conversation

# Chinese and Japanese put no spaces between words, so that each character counts as one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
_ASCII_WORDS = bytes(code if chr(code).isalnum() or chr(code) == "_" else 32 for code in bytes(range(128)).lower())
_ASCII_WORDS += bytes(128)
_BLANKS = bytes(32 if code < 128 and chr(code).isspace() else code for code in range(256))
# Any odd number has an inverse modulo 2**64.
_BASE = 0x9E3779B97F4A7C15
_MOST_KNOWN = 1 << 18


def digest(*conversations: Conversation) -> bytes:
    """16 bytes that are equal for examples with the same words, roles included: Unicode NFC, any white space as one."""
    # The signs between parts stand alone, so that one pass does for all of them. Most texts have no two blanks in a row
    # but at their ends.
    text = "".join([f"\x01 {role} \x02 {content.strip()} " for each in conversations for role, content in _parts(each)])
    if text.isascii():
        # A third of the time, and the same.
        said = text.encode().translate(_BLANKS)
        while b"  " in said:
            said = said.replace(b"  ", b" ")
        said = said.rstrip()
    else:
        # Lone surrogates are no UTF-8; a row that has one is compared all the same.
        said = " ".join(unicodedata.normalize("NFC", text).split()).encode("utf-8", errors="surrogatepass")
    return xxhash.xxh3_128_digest(said)


def spoken(conversation: Conversation) -> str:
    """Prompts and answers: without system messages, roles and documents, which many rows share."""
    if conversation.messages:
        return "\n".join(message.content for message in conversation.messages if message.role != "system")
    plain = conversation.plain
    return "" if plain is None else f"{plain.prompt}\n{plain.completion}"


def words(text: str) -> list[bytes]:
    """The words of a text, lower-cased, without punctuation, in UTF-8."""
    if text.isascii():
        # Several times as fast, and the same.
        return text.encode().translate(_ASCII_WORDS).split()
    return [word.encode("utf-8", errors="surrogatepass") for word in _WORD.findall(text.lower())]


class Runs:
    """Numbers for the runs of `words`, of any length, from one pass over them.

    A run's number is sum(hash(word j) * BASE**j), as in Karp & Rabin, "Efficient randomized pattern-matching
    algorithms", IBM J. Res. Dev. 1987, modulo 2**64.
    """

    def __init__(self, words: Sequence[bytes]) -> None:
        hashes = np.fromiter(map(_HASHES.__getitem__, words), dtype=np.uint64, count=len(words))
        self._powers, self._inverses = _POWERS.upto(len(words))
        self._sums = np.zeros(len(words) + 1, dtype=np.uint64)
        np.cumsum(hashes * self._powers, out=self._sums[1:])

    def of(self, length: int) -> UInt64Array:
        """The numbers of all runs of `length` words, in order; none where there are fewer words."""
        if len(self._sums) <= length:
            return np.zeros(0, dtype=np.uint64)
        different: UInt64Array = self._sums[length:] - self._sums[:-length]
        return different * self._inverses[: len(different)]


class _Hashes(dict[bytes, int]):
    """64-bit hashes of words, remembered; the same on every machine, which Python's own are not."""

    def __missing__(self, word: bytes) -> int:
        if len(self) >= _MOST_KNOWN:
            self.clear()
        made = hashlib.blake2b(word, digest_size=8).digest()
        self[word] = int.from_bytes(made, "little")
        return self[word]


class _Powers:
    """Powers of the base and of its inverse, as many as were ever needed."""

    def __init__(self) -> None:
        self._tables = (np.ones(1, dtype=np.uint64), np.ones(1, dtype=np.uint64))

    def upto(self, count: int) -> tuple[UInt64Array, UInt64Array]:
        if count > len(self._tables[0]):
            size = 1 << count.bit_length()
            self._tables = _powers(_BASE, size), _powers(pow(_BASE, -1, 1 << 64), size)
        return self._tables[0][:count], self._tables[1][:count]


def _powers(base: int, count: int) -> UInt64Array:
    factors = np.full(count, base, dtype=np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


_HASHES, _POWERS = _Hashes(), _Powers()


def _parts(conversation: Conversation) -> list[tuple[str, str]]:
    plain = conversation.plain
    if conversation.messages or plain is None:
        parts = []
        for message in conversation.messages:
            parts.append((message.role, message.content))
            if message.tool_calls:
                parts.append(("tool_calls", json.dumps(message.tool_calls, sort_keys=True)))
    else:
        parts = [("prompt", plain.prompt), ("completion", plain.completion)]
    if conversation.tools:
        parts.append(("tools", json.dumps(conversation.tools, sort_keys=True)))
    if conversation.documents:
        parts.append(("documents", json.dumps(conversation.documents, sort_keys=True)))
    return parts
