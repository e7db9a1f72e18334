"""From characters that carry loss to tokens: equal to walking over every token's place in the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from launcher.data.formats import Conversation, Message, PlainText
from launcher.data.render.encode import Encoder, tokens_of
from launcher.data.render.template import Span

CORPUS = ["What is the colour of the sky?  Blue.", "naïve  façade\n\n\tand 日本語 😀", "ﬁne e\u0301 ½ Ａ", "a  b   c"]
SPECIALS = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_level(*, trim_offsets: bool = True, add_prefix_space: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def metaspace(scheme: str, normalizer: normalizers.Normalizer | None = None) -> Tokenizer:
    """As SentencePiece: ▁ for spaces, bytes for characters it has never seen."""
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("s", "k"), ("sk", "y"), ("▁", "sky"), ("i", "s"), ("▁", "▁")]
    pieces = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehiknorstuwy?.é日"]
    pieces += [one + other for one, other in merges]
    vocab = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "byte-level": byte_level,
    "byte-level-untrimmed": lambda: byte_level(trim_offsets=False),
    "byte-level-prefix-space": lambda: byte_level(add_prefix_space=True),
    "metaspace": lambda: metaspace("always"),
    "metaspace-first": lambda: metaspace("first", normalizers.NFC()),
    "metaspace-nfkc": lambda: metaspace("never", normalizers.NFKC()),
    "metaspace-nfd": lambda: metaspace("always", normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    made = TOKENIZERS[request.param]()
    wrapped: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=TEMPLATE
    )
    return wrapped


def covers(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Per token, whether it covers a character of one of `spans`, token by token.

    Byte-level tokenizers leave leading spaces out of a token's offsets, so a token is taken to begin where the text
    before it ended.
    """
    covered, reach = [], 0
    for start, end in offsets:
        low = min(start, reach)
        reach = max(reach, end)
        covered.append(any(low < last and (end > first or low >= first) for first, last in spans))
    return covered


WORDS = st.lists(
    st.one_of(
        st.sampled_from([*" \n\tabitheskyé日.?▁", "e\u0301", "😀", "ﬁ", "½", "\u00a0", "\u200b", "  ", "</s>"]),
        st.characters(codec="utf-8"),
    ),
    max_size=20,
).map("".join)


def expected(tokenizer: PreTrainedTokenizerFast, text: str, spans: Sequence[Span]) -> list[bool]:
    return covers(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets, spans)


@settings(max_examples=150)
@given(prompt=WORDS, completion=WORDS)
def test_a_completion_is_what_walking_over_the_tokens_finds(
    tokenizer: PreTrainedTokenizerFast, prompt: str, completion: str
) -> None:
    prompt, completion = f"a{prompt}", f"{completion}b"
    (encoded,) = Encoder(tokenizer).encode_all([Conversation(plain=PlainText(prompt=prompt, completion=completion))])
    mask = expected(tokenizer, prompt + completion, [(len(prompt), len(prompt + completion))])
    assert not isinstance(encoded, Exception)
    ids = tokenizer.backend_tokenizer.encode(prompt + completion, add_special_tokens=False).ids
    assert encoded.ids[: len(ids)].tolist() == ids
    assert encoded.trained[1 : len(ids)].tolist() == mask[1:]


@settings(max_examples=100)
@given(contents=st.lists(WORDS, min_size=2, max_size=5))
def test_turns_are_what_walking_over_the_tokens_finds(tokenizer: PreTrainedTokenizerFast, contents: list[str]) -> None:
    roles = ["user", "assistant"] * len(contents)
    row = Conversation(
        messages=tuple(Message(role=role, content=text) for role, text in zip(roles, contents, strict=False))
    )
    text, spans = "", []
    for role, content in zip(roles, contents, strict=False):
        start = len(text) + len(f"<|im_start|>{role}\n")
        text += f"<|im_start|>{role}\n{content}<|im_end|>\n"
        spans += [(start, len(text) - 1)] if role == "assistant" else []
    encoded = Encoder(tokenizer).encode(row)
    assert encoded.ids.tolist() == tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert encoded.trained.tolist() == expected(tokenizer, text, spans)


class FakeEncoding(list[Span]):
    """Tokens at any places that never go back, with gaps, overlaps and tokens of no width."""

    def token_to_chars(self, place: int) -> Span:
        return self[place]

    def char_to_token(self, char: int) -> int | None:
        return next((place for place, (start, end) in enumerate(self) if start <= char < end), None)


@settings(max_examples=300)
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12),
    cut=st.tuples(st.integers(0, 24), st.integers(1, 6)),
)
def test_tokens_without_width_and_gaps_are_taken_as_by_walking(steps: list[Span], cut: Span) -> None:
    places, start, end = [], 0, 0
    for ahead, longer in steps:
        start, end = start + ahead, max(end, start + ahead) + longer
        places.append((start, end))
    first, last = tokens_of(FakeEncoding(places), cut[0], sum(cut))  # type: ignore[arg-type]
    found = [first <= place < last for place in range(len(places))]
    assert found == covers(places, [(cut[0], sum(cut))])


@given(texts=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
@settings(max_examples=20)
def test_a_batch_is_its_rows_one_by_one(tokenizer: PreTrainedTokenizerFast, texts: list[tuple[str, str]]) -> None:
    encoder = Encoder(tokenizer)
    rows = [Conversation(plain=PlainText(prompt=prompt, completion=completion)) for prompt, completion in texts]
    for row, together in zip(rows, encoder.encode_all(rows), strict=True):
        (alone,) = encoder.encode_all([row])
        if isinstance(together, Exception) or isinstance(alone, Exception):
            assert str(together) == str(alone)
            continue
        assert (together.ids.dtype, together.trained.dtype) == (np.uint32, np.bool_)
        assert together.ids.tolist() == alone.ids.tolist()
        assert together.trained.tolist() == alone.trained.tolist()
