"""Tokenizers and prepared folders made on the spot, small and without a network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from launcher.data.feed.packing import pack
from launcher.data.source import CleanConfig, DataSpec, Duplicates, Fix, Overlong, Source, TrainOn
from launcher.data.tokens import DTYPES, META_FILE, FileMark, Meta, SourceMeta, TokenStore
from launcher.plain import plain
from launcher.publish import publish_json

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TEXT = ["What is the colour of the sky?", "Blue.", "And of grass?", "Green, mostly.", "You are terse.", "user system"]
_SPECIALS = ["<s>", "</s>", "<|pad|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>"]
_SPECIALS += ["<|start_header_id|>", "<|end_header_id|>", "[INST]", "[/INST]", "<|Assistant|>", "<|User|>"]

CLEAN = CleanConfig(
    broken=Fix.stop,
    encoding=Fix.keep,
    empty=Fix.keep,
    role_order=Fix.keep,
    min_tokens=0,
    duplicates=Duplicates.keep,
    similarity=0.8,
    contamination=Fix.keep,
    ngram=13,
    most_broken=0.5,
)
"""Nothing is cleaned, and a broken row stops."""
MakeTokenizer = Callable[..., PreTrainedTokenizerFast]
Row = tuple[list[int], list[bool]]
MakeStore = Callable[..., TokenStore]
WriteRows = Callable[..., Path]


def _bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def bpe_json() -> str:
    """A byte-level BPE tokenizer that knows the special tokens of several model families."""
    return _bpe().to_str()


@pytest.fixture(scope="session")
def make_tokenizer(bpe_json: str) -> MakeTokenizer:
    """Wrap the BPE with a chat template and a choice of special tokens."""

    def make(chat_template: str | None = CHATML, *, eos: str | None = "</s>", bos: bool = False) -> Any:
        inner = Tokenizer.from_str(bpe_json)
        if bos:
            inner.post_processor = processors.TemplateProcessing(
                single="<s> $A", special_tokens=[("<s>", inner.token_to_id("<s>"))]
            )
        return PreTrainedTokenizerFast(
            tokenizer_object=inner, bos_token="<s>", eos_token=eos, pad_token="<|pad|>", chat_template=chat_template
        )

    return make


@pytest.fixture(scope="session")
def tokenizer_dir(make_tokenizer: MakeTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tokenizer with a ChatML template."""
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Write rows (objects, or text taken as it is) as JSON lines; the path."""

    def write(rows: Sequence[Any], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text(
            "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
        )
        return path

    return write


@pytest.fixture
def make_spec(tokenizer_dir: Path) -> Callable[..., DataSpec]:
    """A spec over some files, with the ChatML tokenizer."""

    def make(*paths: Path, **changes: Any) -> DataSpec:
        spec = DataSpec(
            sources=tuple(Source(name=path.name, paths=(str(path),)) for path in paths),
            held_out=(),
            tokenizer=str(tokenizer_dir),
            chat_template=None,
            seq_len=64,
            train_on=TrainOn.assistant,
            overlong=Overlong.drop,
            clean=CLEAN,
        )
        return dataclasses.replace(spec, **changes)

    return make


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """A prepared folder with exactly the given (ids, trained) rows of each source, packed to `seq_len`; opened."""

    def make(rows: Sequence[Row], *others: Sequence[Row], seq_len: int = 64) -> TokenStore:
        sources, members, offsets = [], [np.zeros(0, np.int64)], [np.zeros(1, np.int64)]
        for number, mine in enumerate((rows, *others)):
            start = sum(source.rows for source in sources)
            lengths = np.array([len(ids) for ids, _ in mine], dtype=np.int64)
            inside, ends = pack(lengths, seq_len)
            members.append(inside + start)
            offsets.append(ends[1:] + start)
            sources.append(SourceMeta(name=f"s{number}", rows=len(mine), packs=len(ends) - 1, tokens=int(sum(lengths))))
        rows = [row for mine in (rows, *others) for row in mine]
        columns = {
            "pack_rows.bin": np.concatenate(members),
            "pack_offsets.bin": np.concatenate(offsets),
            "tokens-00000.bin": [token for ids, _ in rows for token in ids],
            "trained-00000.bin": [flag for _, trained in rows for flag in trained],
            "offsets.bin": np.cumsum([0, *(len(ids) for ids, _ in rows)]),
            "trained_counts.bin": [sum(trained) for _, trained in rows],
        }
        marks = {}
        for name, values in columns.items():
            data = np.asarray(values, dtype=DTYPES[name.split(".")[0].split("-")[0]]).tobytes()
            (tmp_path / name).write_bytes(data)
            marks[name] = FileMark(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        counts = {field.name: 0 for field in dataclasses.fields(Meta) if field.type == "int"}
        counts |= {
            "rows_per_example": 1,
            "rows": len(rows),
            "rows_in": len(rows),
            "tokens": sum(len(ids) for ids, _ in rows),
        }
        meta = Meta(key="k", sources=tuple(sources), files=marks, spec={"seq_len": seq_len}, versions={}, **counts)
        publish_json(tmp_path / META_FILE, plain(meta))
        return TokenStore(tmp_path)

    return make
