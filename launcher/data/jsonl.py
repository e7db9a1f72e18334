"""JSON-lines files: rows with their places, and an error that names the line.

Owns bytes to rows. Must not know formats, tokens or caches. Places are byte offsets, because a worker that reads the
middle of a file cannot know line numbers; they are counted only when there is something to report.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.data.reject import RowError
from launcher.errors import Problem, UserError

_BOM = b"\xef\xbb\xbf"
_EXCERPT_CHARS = 80
_READ_BYTES = 1 << 20
# What the first bytes say when somebody names a file of another kind, and how to make lines of it.
_OTHER_KINDS = {
    b"\x1f\x8b": ("gzip-compressed", "gunzip -k"),
    b"\x28\xb5\x2f\xfd": ("zstd-compressed", "zstd -dk"),
    b"PAR1": (
        "a Parquet file",
        "python -c 'import sys, datasets as d; d.Dataset.from_parquet(sys.argv[1]).to_json(sys.argv[1] + \".jsonl\")'",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A line that cannot be used, in a form that travels between processes."""

    offset: int
    """Where the line starts in the file, in bytes."""
    excerpt: str
    """Its beginning, printable."""
    reason: str
    """What is wrong."""
    valid: str
    """What would be valid."""
    remedy: str
    """What to do; empty for the usual."""

    @staticmethod
    def of(error: RowError, offset: int, line: bytes) -> Fault:
        """`error` with its place."""
        shown = _excerpt(line)
        return Fault(offset=offset, excerpt=shown, reason=error.reason, valid=error.valid, remedy=error.remedy)


def read_lines(path: Path, start_byte: int = 0, end_byte: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The lines whose first byte lies in [start_byte, end_byte), with that byte's offset; blank lines are left out.

    Neighbouring ranges share no line and miss none.
    """
    with path.open("rb") as file:
        if start_byte:
            file.seek(start_byte - 1)
            file.readline()
        offset = file.tell()
        while end_byte is None or offset < end_byte:
            line = file.readline()
            if not line:
                return
            if not line.isspace():
                yield offset, line.removeprefix(_BOM) if offset == 0 else line
            offset += len(line)


def parse_line(line: bytes) -> dict[str, Any]:
    """One JSON object; RowError where the line is anything else."""
    try:
        text = line.decode("utf-8")
        row = json.loads(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise RowError(f"not UTF-8: {error.reason} at byte {error.start} of the line") from None
    except UnicodeEncodeError:
        raise RowError("holds half of a surrogate pair (\\ud800 to \\udfff), which is no character") from None
    except json.JSONDecodeError as error:
        raise RowError(f"not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise RowError(f"not JSON that can be read: {error}") from None
    if not isinstance(row, dict):
        raise RowError(f"a JSON object is needed, not a {type(row).__name__}")
    return row


def read_rows(path: Path, start_byte: int = 0, end_byte: int | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Byte offset and row of each line of the range; UserError naming FILE:LINE at the first broken one."""
    for offset, line in read_lines(path, start_byte, end_byte):
        try:
            row = parse_line(line)
        except RowError as error:
            raise UserError(line_problem(path, Fault.of(error, offset, line))) from None
        yield offset, row


def line_problem(path: Path, fault: Fault) -> Problem:
    """`fault` of `path` in a person's words, with the line's true number."""
    number = line_number(path, fault.offset)
    return Problem(
        where=f"{path}:{number}",
        message=f"{fault.reason}; the line begins: {fault.excerpt}",
        valid=fault.valid,
        remedy=fault.remedy or f"mend or delete line {number} (sed -n {number}p shows it); one JSON object per line",
    )


def _excerpt(line: bytes) -> str:
    """The line's first characters, printable."""
    text = line[: 4 * _EXCERPT_CHARS].decode("utf-8", errors="replace").strip()
    cut = text[:_EXCERPT_CHARS]
    printable = "".join(char if char.isprintable() else "�" for char in cut)
    return printable + ("…" if len(line.strip()) > len(cut.encode("utf-8", errors="replace")) else "")


def line_number(path: Path, offset: int) -> int:
    """The number, from 1, of the line that starts at byte `offset`; reads the file up to there."""
    newlines = 0
    with path.open("rb") as file:
        while offset > 0 and (block := file.read(min(_READ_BYTES, offset))):
            newlines += block.count(b"\n")
            offset -= len(block)
    return newlines + 1


def end_of_rows(path: Path, limit: int) -> int:
    """The end of the byte range that holds the first `limit` rows (the file's size when there are fewer)."""
    for count, (offset, _) in enumerate(read_lines(path)):
        if count == limit:
            return offset
    return path.stat().st_size


def other_kind(path: Path) -> tuple[str, str] | None:
    """(what the file is, how to turn it into JSON lines) when its first bytes say that it is something else."""
    with path.open("rb") as file:
        head = file.read(4096)
    for magic, (kind, command) in _OTHER_KINDS.items():
        if head.startswith(magic):
            return kind, f"{command} {shlex.quote(str(path))}"
    if head.removeprefix(_BOM).lstrip().startswith(b"["):
        lines = path.with_suffix(".lines.jsonl")
        return "one JSON array", f"jq -c '.[]' {shlex.quote(str(path))} > {shlex.quote(str(lines))}"
    return None
