"""Which prepared data set a `DataSpec` stands for: a hash of all that determines the tokens.

Owns fingerprints of sources, tokenizers and specs. Must not know how data is prepared; loads no tokenizer.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from launcher.data.source import DataSpec
from launcher.data.tokens import META_FILE
from launcher.digest import file_sha256

DATA_VERSION = 2
"""Raise it when the same spec would give other tokens or another layout; prepared data is then made anew."""

_BLOCK_BYTES = 64 << 10
_BLOCKS = 64
# Below this size a source is hashed whole (a quarter of a second), so that no edit at all goes unseen.
_WHOLE_BYTES = 256 << 20
_TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def content_mark(path: Path) -> str:
    """A fingerprint of a file at constant cost: its size, and SHA-256 over up to 64 evenly spaced blocks of 64 KiB.

    The first and last block are among them; up to 4 MiB that is the whole file. It sees appended, cut and replaced
    files; an edit that keeps the size of a larger one may fall between blocks. Times do not count: copies are equal.
    """
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in _block_starts(size):
            file.seek(start)
            digest.update(file.read(_BLOCK_BYTES))
    return f"{size}-{digest.hexdigest()}"


def cache_key(spec: DataSpec) -> str:
    """SHA-256, in hex, over the contents of the sources and the tokenizer and the settings; paths do not count.

    A tokenizer that is a hub id stands for itself: a new revision under the same id is not seen.
    """
    parts = {
        "data_version": DATA_VERSION,
        "sources": [
            [[_source_mark(Path(path)) for path in source.paths], source.format.value, source.limit]
            for source in spec.sources
        ],
        "tokenizer": _tokenizer_mark(spec.tokenizer),
        "chat_template": None if spec.chat_template is None else file_sha256(Path(spec.chat_template)),
        "train_on": spec.train_on.value,
        "seq_len": spec.seq_len,
        "overlong": spec.overlong.value,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def find(spec: DataSpec, cache_root: Path) -> Path | None:
    """The folder that holds `spec` prepared; None if nobody has done it."""
    folder = cache_root / cache_key(spec)
    return folder if (folder / META_FILE).is_file() else None


def _block_starts(size: int) -> list[int]:
    if size <= _BLOCKS * _BLOCK_BYTES:
        return list(range(0, size, _BLOCK_BYTES))
    last = size - _BLOCK_BYTES
    return [last * number // (_BLOCKS - 1) for number in range(_BLOCKS)]


def _source_mark(path: Path) -> str:
    return file_sha256(path) if path.stat().st_size <= _WHOLE_BYTES else content_mark(path)


def _tokenizer_mark(tokenizer: str) -> dict[str, str] | str:
    folder = Path(tokenizer)
    if not folder.is_dir():
        return tokenizer
    return {name: file_sha256(folder / name) for name in _TOKENIZER_FILES if (folder / name).is_file()}
