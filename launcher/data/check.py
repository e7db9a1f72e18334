"""What can be said of a source before anything is submitted, at constant cost.

Owns the checks that the login machine runs. Reads the beginning of a file only; must not tokenise or import anything
heavy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from launcher.data.formats import FieldsError, to_conversation
from launcher.data.jsonl import Fault, line_problem, other_kind, parse_line, read_lines
from launcher.data.reject import RowError
from launcher.data.source import Source
from launcher.errors import Problem, closest_first

HEAD_BYTES = 4 << 20
_MOST_PROBLEMS = 5


def check_head(source: Source, key: str, max_bytes: int = HEAD_BYTES) -> list[Problem]:
    """What is wrong with the file or with its first `max_bytes`: at most five problems, none when all is well.

    `key` is the config key that named the file, for problems of the whole file; bad rows are named FILE:LINE.
    """
    found = [problem for path in source.paths for problem in check_file(Path(path), key)]
    if found:
        return found[:_MOST_PROBLEMS]
    path = Path(source.paths[0])
    wrong_fields = set()
    for offset, line in _head(path, source.limit, max_bytes):
        try:
            to_conversation(parse_line(line), source.format)
        except RowError as error:
            # A file of another format is one mistake, not five.
            if isinstance(error, FieldsError):
                if error.reason in wrong_fields:
                    continue
                wrong_fields.add(error.reason)
            found.append(line_problem(path, Fault.of(error, offset, line)))
            if len(found) == _MOST_PROBLEMS:
                break
    return found


def check_template(source: Source, tokenizer: Path, key: str) -> list[Problem]:
    """The problem of rows of messages for a tokenizer folder that has no chat template; none for a readable other."""
    if _has_template(tokenizer):
        return []
    try:
        for _, line in _head(Path(source.paths[0]), 1, HEAD_BYTES):
            if to_conversation(parse_line(line), source.format).plain is None:
                remedy = "name a Jinja file, such as recipes/chat_templates/plain.jinja of this project"
                message = (
                    f"the rows of {source.name} are messages, and the tokenizer in {tokenizer} has no chat template"
                )
                return [Problem(where=key, message=message, remedy=remedy)]
    except (OSError, RowError):
        # Told by check_head.
        pass
    return []


def _has_template(tokenizer: Path) -> bool:
    if (tokenizer / "chat_template.jinja").is_file() or (tokenizer / "additional_chat_templates").is_dir():
        return True
    try:
        document = json.loads((tokenizer / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and bool(document.get("chat_template"))


def check_file(path: Path, key: str) -> list[Problem]:
    """The problem of a file that is missing, unreadable, empty or of another kind; one at most."""
    try:
        if path.is_dir():
            valid = ", ".join(str(name) for name in sorted(path.glob("*.jsonl"))[:5])
            return [Problem(where=key, message=f"{path} is a folder", valid=valid, remedy="name one JSONL file in it")]
        if not path.exists():
            return [_missing(path, key)]
        if path.stat().st_size == 0:
            remedy = "write it again: an empty file is often a copy that was cut short"
            return [Problem(where=key, message=f"{path} is empty", remedy=remedy)]
        other = other_kind(path)
    except PermissionError:
        remedy = f"ls -ld {path} {path.parent} shows who may; chmod u+r {path}"
        return [Problem(where=key, message=f"{path} may not be read by {_user()}", remedy=remedy)]
    if other:
        kind, command = other
        return [Problem(where=key, message=f"{path} is {kind}, not JSON lines", remedy=command)]
    return []


def _head(path: Path, limit: int | None, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """The rows that lie whole within the first `max_bytes`, `limit` of them at most."""
    for count, (offset, line) in enumerate(read_lines(path, 0, max_bytes)):
        if count == limit or offset + len(line) > max_bytes:
            return
        yield offset, line


def _missing(path: Path, key: str) -> Problem:
    folder = path.parent
    if not folder.is_dir():
        remedy = "check the path; the submitting machine and the nodes must both see it"
        return Problem(where=key, message=f"{path} does not exist, nor does its folder", remedy=remedy)
    names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    near = ", ".join(str(folder / name) for name in closest_first(path.name, sorted(names)))
    return Problem(where=key, message=f"{path} does not exist", valid=near, remedy=f"name a file of {folder}")


def _user() -> str:
    return os.environ.get("USER") or f"user {os.getuid()}"
