"""How a file or folder comes to exist on a shared file system: whole and synced, or not at all.

Owns temp-fsync-rename and append-only records. Knows no file's meaning.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def sync_dir(path: Path) -> None:
    """Make renames and new names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_text(path: Path, text: str) -> None:
    """Write `text` to `path` (mode 0600) so that a reader sees the old content or the new, never a part."""
    publish_lines(path, [text])


def publish_lines(path: Path, lines: Iterable[str]) -> None:
    """The same of texts one after another, which never are in memory together."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a new file (mode 0600) that nobody looks for yet; `sync_file_system` makes it and its like durable."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def sync_file_system(path: Path) -> None:
    """Make everything written so far on the file system of `path` durable, once for many files."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Python has no name for it; os.sync would wait for every other file system too.
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def half_written(path: Path) -> Iterator[Path]:
    """What writers that died left of publishing `path`."""
    return path.parent.glob(f".{path.name}.*.tmp")


def publish_json(path: Path, document: Any) -> None:
    """Publish `document` as indented JSON with a final newline."""
    publish_text(path, json_text(document))


def json_text(document: Any) -> str:
    """`document` as `publish_json` writes it."""
    return json.dumps(document, indent=2, sort_keys=False, allow_nan=False) + "\n"


def publish_json_once(path: Path, document: Any) -> bool:
    """Publish `document` unless `path` exists; whether this call was the one. Of several writers one wins."""
    whole = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    publish_json(whole, document)
    try:
        os.link(whole, path)
    except FileExistsError:
        return False
    finally:
        whole.unlink()
    sync_dir(path.parent)
    return True


def publish_dir(temporary: Path, final: Path) -> None:
    """Give a finished folder its final name.

    Every file in it must be synced by its writer; `final` must not exist or be an empty folder (OSError otherwise).
    """
    sync_dir(temporary)
    os.rename(temporary, final)
    sync_dir(final.parent)


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line in a single write, so that two writers never interleave within a line.

    OSError where the file system took none of it, or only a part; the next record then begins on a line of its own.
    """
    line = (json.dumps(record, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        end = os.fstat(descriptor).st_size
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(descriptor)


def read_records(path: Path) -> list[dict[str, Any]]:
    """All whole records of a JSONL file; a last line cut off by a crash is left out, a missing file is empty."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records
