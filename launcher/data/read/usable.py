"""Whether the files of a source can be read at all, before any of them is."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from launcher.data.read.kinds import SUFFIXES, KindError, kind_of
from launcher.data.source import Source
from launcher.errors import Problem, closest_first

_MOST_NAMES = 5


def unreadable(source: Source, key: str, looked_into: int | None = None) -> list[Problem]:
    """The problem of each file that is missing, a folder, empty, forbidden or of no known kind.

    `key` is the config key that named it. Only the first `looked_into` files are opened, and all of them without it.
    """
    return [
        problem
        for number, path in enumerate(source.paths)
        for problem in _of_file(Path(path), key, look=looked_into is None or number < looked_into)
    ]


def _of_file(path: Path, key: str, *, look: bool) -> Iterator[Problem]:
    try:
        if path.is_dir():
            yield _folder(path, key)
        elif not path.exists():
            yield _missing(path, key)
        elif path.stat().st_size == 0:
            remedy = "write it again: an empty file is often a copy that was cut short"
            yield Problem(where=key, message=f"{path} is empty", remedy=remedy)
        elif look:
            kind_of(path)
    except PermissionError:
        remedy = f"ls -ld {path} {path.parent} shows who may; chmod u+r {path}"
        yield Problem(where=key, message=f"{path} may not be read by {_user()}", remedy=remedy)
    except KindError as error:
        yield Problem(where=key, message=error.message, valid=error.valid, remedy=error.remedy)


def _folder(path: Path, key: str) -> Problem:
    files = sorted(name for name in path.iterdir() if name.suffix in SUFFIXES)
    valid = ", ".join(str(name) for name in files[:_MOST_NAMES])
    pattern = path / f"*{files[0].suffix if files else '.jsonl'}"
    return Problem(
        where=key, message=f"{path} is a folder", valid=valid, remedy=f"name a file in it, or a pattern: {pattern}"
    )


def _missing(path: Path, key: str) -> Problem:
    is_pattern = glob.has_magic(str(path))
    folder = path.parent
    while is_pattern and glob.has_magic(str(folder)):
        folder = folder.parent
    if not folder.is_dir():
        remedy = "check the path; the submitting machine and the nodes must both see it"
        return Problem(where=key, message=f"{path} does not exist, nor does its folder", remedy=remedy)
    names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    near = ", ".join(str(folder / name) for name in closest_first(path.name, sorted(names), limit=_MOST_NAMES))
    message = f"no file matches {path}" if is_pattern else f"{path} does not exist"
    return Problem(where=key, message=message, valid=near, remedy=f"name a file of {folder}")


def _user() -> str:
    return os.environ.get("USER") or f"user {os.getuid()}"
