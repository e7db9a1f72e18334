"""Which prepared data set a `DataSpec` stands for: a hash of all that determines the tokens.

Owns fingerprints of sources, tokenizers and specs. Must not know how data is prepared; loads no tokenizer.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from launcher.data.source import DataSpec, Fix, Source
from launcher.digest import file_sha256
from launcher.plain import plain
from launcher.publish import publish_json

Stats: TypeAlias = list[tuple[int, int, int]]
"""Size in bytes, time of change in ns and inode, per file."""

DATA_VERSION = 4
"""Raise it when the same spec would give other tokens or another layout; prepared data is then made anew."""

META_FILE = "meta.json"
"""Comes into a prepared folder last: where it is, all is."""

_BLOCK_BYTES = 64 << 10
_BLOCKS = 64
WHOLE_BYTES = 256 << 20
"""Up to this size in all, sources are read to be known (a quarter of a second)."""
PLAN_BYTES = 32 << 20
"""The same for a plan, which has less time; of what is larger, a record is kept."""
_READERS = 8
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
    """SHA-256, in hex, over the contents of sources, held-out rows and tokenizer, and the settings that tell in tokens.

    Reads every file whole. Paths, names, tags, weights and counts do not matter. What lies on a hub, data or tokenizer,
    stands for itself: a new revision under the same name is not seen. FileNotFoundError where a file is missing.
    """
    paths = _paths(spec)
    # Hashing leaves Python's lock, and storage answers several readers faster than one.
    with ThreadPoolExecutor(_READERS) as pool:
        marks = dict(zip(paths, pool.map(file_sha256, map(Path, paths)), strict=True))
    return _hash(_settings(spec) | {"files": [marks[path] for path in paths]})


def find(spec: DataSpec, cache_root: Path, whole_bytes: int | None = None) -> Path | None:
    """The prepared folder of `spec` under `cache_root`, if one is known; cheap whatever the size.

    Sources of more than `whole_bytes` (256 MiB) in all are not read: a record says which key files of these sizes,
    times and inodes had. None where there is no record; `prepare` then reads them, and finds the folder if it is there.
    """
    try:
        stats = stat_marks(spec)
        if sum(size for size, _, _ in stats) <= (WHOLE_BYTES if whole_bytes is None else whole_bytes):
            key = cache_key(spec)
        else:
            key = json.loads(_record(spec, stats, cache_root).read_text(encoding="utf-8"))["key"]
    except FileNotFoundError:
        return None
    folder = cache_root / key
    return folder if (folder / META_FILE).is_file() else None


def remember(spec: DataSpec, stats: Stats, key: str, cache_root: Path) -> None:
    """Note for `find` that files with `stats` have `key`, for when it does not read them."""
    if sum(size for size, _, _ in stats) > PLAN_BYTES:
        record = _record(spec, stats, cache_root)
        record.parent.mkdir(mode=0o700, exist_ok=True)
        publish_json(record, {"key": key})


def stat_marks(spec: DataSpec) -> Stats:
    """Size, time of change and inode of each file; FileNotFoundError where one is missing."""
    found = [Path(path).stat() for path in _paths(spec)]
    return [(stat.st_size, stat.st_mtime_ns, stat.st_ino) for stat in found]


def looks_for_held_out(spec: DataSpec) -> bool:
    """Whether training rows are compared with held-out ones."""
    return bool(spec.held_out) and spec.clean.contamination is not Fix.keep


def _record(spec: DataSpec, stats: Stats, cache_root: Path) -> Path:
    """Where it is noted. A run copies its chat template, which has its content as a mark, therefore."""
    template = None if spec.chat_template is None else file_sha256(Path(spec.chat_template))
    files = stats if template is None else stats[:-1]
    return cache_root / "known" / f"{_hash(_settings(spec) | {'files': files, 'template': template})}.json"


def _paths(spec: DataSpec) -> list[str]:
    """All files whose contents count, in order."""
    sources = (*spec.sources, *(spec.held_out if looks_for_held_out(spec) else ()))
    paths = [path for source in sources for path in source.paths]
    return paths if spec.chat_template is None else [*paths, spec.chat_template]


def _settings(spec: DataSpec) -> dict[str, Any]:
    # Absent where nobody asks for them, so that what was prepared before there were any is found.
    slices = {"slices": list(spec.slices)} if spec.slices else {}
    return slices | {
        "data_version": DATA_VERSION,
        "sources": [_source(source) for source in spec.sources],
        "held_out": [_source(source) for source in spec.held_out] if looks_for_held_out(spec) else [],
        "tokenizer": _tokenizer_mark(spec.tokenizer),
        "chat_template": spec.chat_template is not None,
        "train_on": spec.train_on.value,
        "seq_len": spec.seq_len,
        "overlong": spec.overlong.value,
        "clean": plain(spec.clean),
        "learns": spec.learns.value,
        "labels": list(spec.labels),
    }


def _source(source: Source) -> dict[str, Any]:
    """How a source is read; `files` says what is in it, of which it has so many."""
    described = plain(source)
    kept = {name: described[name] for name in ("hub", "format", "columns", "unit", "limit")}
    return kept | {"files": len(source.paths)}


def _hash(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _block_starts(size: int) -> list[int]:
    if size <= _BLOCKS * _BLOCK_BYTES:
        return list(range(0, size, _BLOCK_BYTES))
    last = size - _BLOCK_BYTES
    return [last * number // (_BLOCKS - 1) for number in range(_BLOCKS)]


def _tokenizer_mark(tokenizer: str) -> dict[str, str] | str:
    folder = Path(tokenizer)
    if not folder.is_dir():
        return tokenizer
    return {name: file_sha256(folder / name) for name in _TOKENIZER_FILES if (folder / name).is_file()}
