"""From a conversation to tokens, and which of them carry loss.

Owns the loss mask. Must not know files, lines or lengths; works without torch.

A row is tokenised once as a whole, as inference would, and a token is trained when it covers any character that is.
"""

from __future__ import annotations

import functools
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from launcher.data.formats import Conversation, PlainText
from launcher.data.reject import RowError, Step
from launcher.data.render.spans import SpanFinder
from launcher.data.render.template import ChatTemplate, Span, unusable
from launcher.data.render.tokenizer import load_tokenizer
from launcher.data.source import TrainOn
from launcher.errors import Problem, UserError

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerFast

# Made once: numpy takes as long for the name of a type as for all else.
_IDS, _BOOLS = np.dtype(np.uint32), np.dtype(np.bool_)


@dataclass(kw_only=True, slots=True, eq=False)
class Encoded:
    """One row as tokens, in plain buffers: rows are short, and numpy takes longer to begin than for most of them."""

    tokens: array[int]
    """Token ids, as uint32."""
    loss: bytearray
    """Per token: 1 where it carries loss. Never the one at position 0, since nothing predicts it."""

    @property
    def ids(self) -> NDArray[np.uint32]:
        """`tokens`, as numpy sees them."""
        return np.frombuffer(self.tokens, _IDS)

    @property
    def trained(self) -> NDArray[np.bool_]:
        """`loss`, as numpy sees it."""
        return np.frombuffer(self.loss, _BOOLS)


@dataclass(kw_only=True, slots=True)
class _Text:
    """One row before it is tokenised."""

    text: str
    """What is tokenised."""
    spans: list[Span] | None
    """The characters that carry loss, ascending; None is all of them."""
    whole: bool
    """Whether its beginning- and end-of-sequence tokens are in the text already."""


class Encoder:
    """Renders and tokenises conversations with one tokenizer, whose chat template is the one that counts."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        chat_template: str | None = None,
        train_on: TrainOn = TrainOn.assistant,
    ) -> None:
        """`chat_template` only names, in errors, the file that the tokenizer's template came from."""
        self._name = chat_template or f"the chat template of {tokenizer.name_or_path!r}"
        self._tokenizer = tokenizer
        self._train_on = train_on
        self._backend = tokenizer.backend_tokenizer
        self._bos, self._eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self._has_template = bool(tokenizer.chat_template)
        self._adds_bos = self._backend.encode("").ids[:1] == [self._bos]
        # Some tokenizers bring a second template for rows with tools.
        self._finder = functools.cache(self._make_finder)

    def encode(self, conversation: Conversation) -> Encoded:
        """Tokens and loss mask of one row; raises what `encode_all` returns."""
        (encoded,) = self.encode_all([conversation])
        if isinstance(encoded, RowError):
            raise encoded
        return encoded

    def encode_all(self, conversations: Sequence[Conversation]) -> list[Encoded | RowError]:
        """Tokens and loss mask of each row, or why it has none: it cannot be rendered, or no token would be trained.

        Raises UserError where no row could be used: no chat template, one that does not parse, no end-of-sequence
        token. Runs on all cores unless TOKENIZERS_PARALLELISM is false.
        """
        texts = [self._text(conversation) for conversation in conversations]
        # tokenizers 0.23 has an `encode_batch_fast` for those that need no places in the text; it is a quarter slower.
        encodings = iter(
            self._backend.encode_batch(
                [text.text for text in texts if isinstance(text, _Text)], add_special_tokens=False
            )
        )
        return [text if isinstance(text, RowError) else self._encoded(text, next(encodings)) for text in texts]

    def encode_texts(self, conversations: Sequence[Conversation]) -> list[Encoded | RowError]:
        """The plain texts as the tokenizer by itself would give them to a model; only the last token carries loss."""
        texts = [conversation.plain.completion if conversation.plain else "" for conversation in conversations]
        found: list[Encoded | RowError] = []
        for encoding in self._backend.encode_batch(texts, add_special_tokens=True):
            tokens = array("I", encoding.ids)
            if len(tokens) < 2:
                found.append(RowError("it has fewer than two tokens", step=Step.untrained))
            else:
                found.append(Encoded(tokens=tokens, loss=bytearray(len(tokens) - 1) + b"\1"))
        return found

    def _text(self, conversation: Conversation) -> _Text | RowError:
        try:
            if conversation.messages and self._has_template:
                return self._chat(conversation)
            if conversation.plain is not None:
                return self._plain(conversation.plain)
        except RowError as error:
            return error
        raise unusable(
            f"the tokenizer {self._tokenizer.name_or_path!r} has no chat template, but the rows are messages"
        )

    def _chat(self, conversation: Conversation) -> _Text:
        finder = self._finder(bool(conversation.tools))
        if self._train_on is TrainOn.all:
            return _Text(text=finder.render(conversation), spans=None, whole=True)
        text, spans = finder.find(conversation, self._turns(conversation))
        return _Text(text=text, spans=spans, whole=True)

    def _turns(self, conversation: Conversation) -> tuple[int, ...]:
        """The messages that carry loss."""
        numbered = list(enumerate(conversation.messages))[conversation.first_trained :]
        if self._train_on is TrainOn.flags:
            turns = [place for place, message in numbered if message.train]
            if not turns:
                reason = 'no token of this row would be trained: no message has "train": true (data.train_on=flags)'
                remedy = "set data.train_on=assistant, or flag the messages to learn"
                raise RowError(reason, remedy=remedy, step=Step.untrained)
            return tuple(turns)
        turns = [place for place, message in numbered if message.role == "assistant"]
        return tuple(turns[-1:] if self._train_on is TrainOn.last else turns)

    def _plain(self, text: PlainText) -> _Text:
        if self._eos is None:
            remedy = 'set "eos_token" in its tokenizer_config.json'
            message = f"the tokenizer {self._tokenizer.name_or_path!r} has no end-of-sequence token"
            raise UserError(Problem(where="model.path", message=message, remedy=remedy))
        whole = text.prompt + text.completion
        return _Text(text=whole, spans=[(len(text.prompt), len(whole))] if text.prompt else None, whole=False)

    def _encoded(self, text: _Text, encoding: Encoding) -> Encoded | RowError:
        # Lists of ids cost time to make and to copy: there is one, and it is gone at once.
        ids = array("I", encoding.ids)
        said = len(ids)
        before = 0 if text.whole else self._close(ids)
        trained = bytearray(b"\1" * len(ids) if text.spans is None else len(ids))
        for start, end in text.spans or ():
            first, last = tokens_of(encoding, start, end)
            trained[before + first : before + last] = b"\1" * (last - first)
        # That a plain text ends is learnt.
        ended = before + said
        if ended < len(ids):
            trained[ended:] = b"\1" * (len(ids) - ended)
        if trained:
            trained[0] = 0
        if 1 in trained:
            return Encoded(tokens=ids, loss=trained)
        if not text.whole:
            return RowError("no token of this row would be trained: its completion is empty", step=Step.untrained)
        return RowError(
            f"no token of this row would be trained: {self._name} leaves nothing of what is said",
            remedy="set data.chat_template=FILE.jinja to a template that shows the assistant's turns "
            "(${shipped:chat_templates/chatml.jinja} is one), or data.train_on=all",
            step=Step.untrained,
        )

    def _close(self, ids: array[int]) -> int:
        """Give plain text its beginning- and end-of-sequence tokens; how many come before it now."""
        if not ids or ids[-1] != self._eos:
            ids.append(self._eos)
        if not self._adds_bos or ids[0] == self._bos:
            return 0
        ids.insert(0, self._bos)
        return 1

    def _make_finder(self, has_tools: bool) -> SpanFinder:
        try:
            text = self._tokenizer.get_chat_template(tools=[{}] if has_tools else None)
        except ValueError as error:
            raise unusable(f"the tokenizer {self._tokenizer.name_or_path!r}: {str(error).splitlines()[0]}") from error
        added = self._tokenizer.added_tokens_decoder.values()
        return SpanFinder(
            ChatTemplate(text, self._tokenizer.special_tokens_map, self._name),
            tuple(token.content for token in added if token.special),
        )


def load_encoder(tokenizer: str, chat_template: str | None, train_on: TrainOn = TrainOn.assistant) -> Encoder:
    """The encoder of a `DataSpec`'s tokenizer and chat template; UserError as `load_tokenizer`."""
    return Encoder(load_tokenizer(tokenizer, chat_template), chat_template, train_on)


def tokens_of(encoding: Encoding, start: int, end: int) -> Span:
    """The tokens that cover a character of [start, end): the first of them, and the one after the last.

    Byte-level tokenizers leave leading spaces out of a token's offsets, so a token is taken to begin where the one
    before it ended. Neither beginnings nor ends ever go back, which is why a handful of tokens tells.
    """

    count = len(encoding)
    # None for tokens that are not the text's, of which nobody asks.
    chars: Callable[[int], Any] = encoding.token_to_chars
    first = encoding.char_to_token(start)
    if end <= start:
        last = None
    elif count and _covers(chars(count - 1), end):
        # Most answers go to the end of the text.
        last = count - 1
    else:
        last = encoding.char_to_token(end - 1)
    # No token has a space that was left out.
    first = bisect_right(range(count), start, key=lambda place: chars(place)[1]) if first is None else first
    # Tokens of no width, and those that share a character. Places cost; most tokens before need one, not two.
    while first > 0 and chars(first - 1)[0] >= start and _begin(chars, first - 1) >= start:
        first -= 1
    if last is None:
        last = bisect_left(range(count), end, lo=first, key=lambda place: chars(place)[1])
        while last < count and _begin(chars, last) < end:
            last += 1
        return first, last
    # The token of the last character ends at `end` or later, and so does every token after it.
    last += 1
    while last < count and chars(last)[0] < end:
        last += 1
    return first, last


def _covers(chars: Span, end: int) -> bool:
    """Whether the character before `end` is among these."""
    return chars[0] < end <= chars[1]


def _begin(chars: Callable[[int], Any], place: int) -> int:
    """Where a token begins, if it begins where the one before it ended."""
    return min(chars(place)[0], chars(place - 1)[1]) if place else 0
