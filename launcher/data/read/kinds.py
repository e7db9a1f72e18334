"""What kind of file a path is: its name says so and its first bytes confirm it.

Owns suffixes and magic numbers. Must not read more than the beginning and the last bytes.
"""

from __future__ import annotations

import json
import shlex
from io import BufferedReader
from pathlib import Path

from launcher.data.read.lines import BOM
from launcher.data.read.piece import Kind
from launcher.data.read.streams import Damaged, compression, unpacked

SUFFIXES = {
    ".jsonl": Kind.lines,
    ".ndjson": Kind.lines,
    ".json": Kind.json,
    ".csv": Kind.csv,
    ".tsv": Kind.csv,
    ".txt": Kind.text,
    ".text": Kind.text,
    ".md": Kind.text,
    ".parquet": Kind.parquet,
    ".arrow": Kind.arrow,
    ".feather": Kind.arrow,
}
COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
READABLE = f"{', '.join(SUFFIXES)}; all but the last three also with {', '.join(COMPRESSIONS)}"
"""What can be read, for error texts."""
_NAMES = {
    Kind.lines: "JSON lines",
    Kind.json: "JSON",
    Kind.csv: "CSV",
    Kind.text: "plain text",
    Kind.parquet: "a Parquet file",
    Kind.arrow: "an Arrow file",
}
_HEAD_BYTES = 1 << 20
_BLOCK_BYTES = 64 << 10
_LFS = b"version https://git-lfs"


class KindError(Exception):
    """The file is not what it says, or nothing that can be read."""

    def __init__(self, message: str, *, valid: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.valid = valid
        self.remedy = remedy


def kind_of(path: Path) -> Kind:
    """The file's kind; KindError where name and content disagree, or neither says. OSError as opening it."""
    named, named_packing = _named(path)
    packing = compression(path)
    quoted = shlex.quote(str(path))
    if named_packing is not None and packing != named_packing:
        raise KindError(f"{path} is not {named_packing}-compressed, though its name says so", remedy="copy it again")
    if packing is not None and named_packing is None and named is not None:
        suffix = next(suffix for suffix, name in COMPRESSIONS.items() if name == packing)
        message = f"{path} is {packing}-compressed, and its name does not say so"
        raise KindError(message, remedy=f"mv {quoted} {shlex.quote(str(path) + suffix)}")
    with unpacked(path) as file:
        head = _head(path, file)
        seen = _by_magic(path, head)
        if seen is None and named in (Kind.parquet, Kind.arrow):
            raise KindError(f"{path} is not {_NAMES[named]}, though its name says so", remedy="write or copy it again")
        if seen is not None and packing is not None:
            raise KindError(f"{path} is {_NAMES[seen]} compressed once more", remedy="unpack it: it is small already")
        if seen is None:
            return _by_text(path, head, named)
        if seen is Kind.parquet:
            _confirm_footer(path, file)
    if named not in (None, seen):
        raise KindError(f"{path} is {_NAMES[seen]}, though its name says otherwise", remedy="give it its true suffix")
    return seen


def is_tabbed(path: Path) -> bool:
    """Whether fields are apart by tabs."""
    return _plain_suffix(path) == ".tsv"


def _named(path: Path) -> tuple[Kind | None, str | None]:
    return SUFFIXES.get(_plain_suffix(path)), COMPRESSIONS.get(path.suffix.lower())


def _plain_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSIONS else suffix


def _head(path: Path, file: BufferedReader) -> bytes:
    head = b""
    try:
        while len(head) < _HEAD_BYTES and head.lstrip().count(b"\n") < 2 and (block := file.read1(_BLOCK_BYTES)):
            head += block
    except Damaged as error:
        # The rows before the damage are told apart by whoever reads them.
        if not head:
            raise KindError(f"{path} cannot be unpacked: {error}", remedy="copy it again") from None
    return head


def _by_magic(path: Path, head: bytes) -> Kind | None:
    if head.startswith(b"PAR1"):
        return Kind.parquet
    # The second begins a stream: a continuation mark and the length of a schema (Arrow columnar format, IPC).
    if head.startswith(b"ARROW1") or (head.startswith(b"\xff\xff\xff\xff") and len(head) >= 8):
        return Kind.arrow
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        remedy = f"iconv -f UTF-16 -t UTF-8 {shlex.quote(str(path))} > NEW_FILE"
        raise KindError(f"{path} is UTF-16 text", valid="UTF-8", remedy=remedy)
    if head.startswith(_LFS):
        raise KindError(f"{path} is a Git LFS pointer, not the data that it stands for", remedy="git lfs pull")
    return None


def _confirm_footer(path: Path, file: BufferedReader) -> None:
    file.seek(max(0, path.stat().st_size - 4))
    if file.read(4) != b"PAR1":
        raise KindError(f"{path} is a Parquet file without its end: it was cut short", remedy="copy it again")


def _by_text(path: Path, head: bytes, named: Kind | None) -> Kind:
    start = head.removeprefix(BOM).lstrip()
    if named is Kind.lines and start.startswith(b"["):
        remedy = f"mv {shlex.quote(str(path))} {shlex.quote(str(path.with_suffix('.json')))}"
        raise KindError(f"{path} is one JSON array, not JSON lines", remedy=remedy)
    if named is Kind.csv and start.startswith(b"{") and _is_lines(start):
        raise KindError(f"{path} is JSON lines, not CSV", remedy="give it the suffix .jsonl")
    if named is None or named is Kind.json:
        if start.startswith(b"["):
            return Kind.json
        # Many a .json holds an object per line.
        if start.startswith(b"{"):
            return Kind.lines if _is_lines(start) else Kind.json
        if named is None and not start:
            return Kind.lines
    if named is None:
        remedy = "give it the suffix of what it holds, or make JSON lines of it"
        raise KindError(f"{path} is of no known kind", valid=READABLE, remedy=remedy)
    return named


def _is_lines(start: bytes) -> bool:
    """Whether text that begins with an object holds one per line, and is not one object over several."""
    first, _, rest = start.partition(b"\n")
    second = rest.lstrip()[:1]
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return second in (b"", b"{") and not first.rstrip().endswith((b"{", b"[", b",", b":"))
    return True
