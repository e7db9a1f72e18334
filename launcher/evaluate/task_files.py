"""Task files of the user's own: copied, with all that they name, to where the job finds them. No torch.

A task file is YAML in the form of lm-evaluation-harness. It may name functions of Python files beside it; who names the
task file on the command line means these too.
"""

from __future__ import annotations

import filecmp
import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from launcher.errors import NotFoundError, Problem, UserError

ENDINGS = (".yaml", ".yml")
UNSAFE = ("trust_remote_code", "unsafe_code")
"""Keys that let a data set's author, or the model, run code here."""


class _Tasks(yaml.SafeLoader):
    """YAML in which `!function module.name` is a text."""


_Tasks.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def is_file(task: str) -> bool:
    """Whether a word of `--tasks` means a file, and not a task of the harness."""
    return task.endswith(ENDINGS) or "/" in task


@dataclass(frozen=True, kw_only=True, slots=True)
class Tasks:
    """What task files name."""

    names: list[str]
    """Of the tasks, in the files' order."""
    files: dict[str, Path]
    """The files themselves and all that they name, by the place of their copies."""


def read_tasks(files: Sequence[str], work_dir: Path) -> Tasks:
    """The tasks of task files; copies nothing.

    Relative data files are looked for beside the task file, then in `work_dir`; absolute ones stay where they are.
    NotFoundError for what is missing, UserError for what is no task, or would let others' code run.
    """
    found: dict[str, Path] = {}
    names = [_task(work_dir / Path(name).expanduser(), found, work_dir) for name in files]
    return Tasks(names=names, files=found)


def copy_tasks(files: Sequence[str], target: Path, work_dir: Path) -> list[str]:
    """Copy task files and what they name to `target`, as `read_tasks` finds them; the names of the tasks."""
    tasks = read_tasks(files, work_dir)
    target.mkdir(mode=0o700)
    for name, source in tasks.files.items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(source, copy)
    return tasks.names


def digest(folder: Path) -> str:
    """Short hash of all files below `folder`, names included."""
    hasher = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        hasher.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()[:16]


def _task(path: Path, found: dict[str, Path], work_dir: Path) -> str:
    document = _document(path, found, work_dir)
    named = document.get("task", document.get("group"))
    name = document.get("group") if isinstance(named, list) else named
    if not isinstance(name, str):
        raise UserError(
            Problem(where=str(path), message="it names no task", valid="task: NAME, as lm-evaluation-harness has it")
        )
    return name


def _document(path: Path, found: dict[str, Path], work_dir: Path) -> dict[str, Any]:
    """The file's content, that of the files it includes below it; all of them are added to `found`."""
    document = _read(path)
    _refuse_unsafe(path, document)
    _place(path, path.name, found)
    included = document.get("include", [])
    for name in [included] if isinstance(included, str) else included:
        document = {**_document(path.parent / str(name), found, work_dir), **document}
    if any(text.startswith("!function ") for _, text in _texts(document)):
        # One of them may import another.
        for source in path.parent.glob("*.py"):
            _place(source, source.name, found)
    for name in _data_files(document):
        if not Path(name).is_absolute():
            _place(_data_file(name, path, work_dir), name, found)
    return document


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Tasks)
    except OSError as error:
        raise NotFoundError(Problem(where=str(path), message=str(error.strerror))) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(Problem(where=str(path), message=f"it is no YAML: {error}")) from error
    if not isinstance(document, dict):
        raise UserError(Problem(where=str(path), message="it is no mapping", valid="a task of lm-evaluation-harness"))
    return document


def _refuse_unsafe(path: Path, document: Mapping[str, Any]) -> None:
    bad = [key for key, value in _keys(document) if key in UNSAFE and value]
    if bad:
        raise UserError(
            Problem(
                where=str(path),
                message=f"{', '.join(bad)} would have code run here that is neither yours nor the harness's",
                remedy="take it out; data in JSON lines needs none (dataset_path: json)",
            )
        )


def _place(source: Path, name: str, found: dict[str, Path]) -> None:
    """Note a file under the relative `name` that its copy gets."""
    if ".." in Path(name).parts:
        raise UserError(
            Problem(where=name, message="it leads out of the task's folder", valid="a file beside or below")
        )
    if not source.is_file():
        raise NotFoundError(Problem(where=str(source), message="there is no such file"))
    name = str(Path(name))
    if name in found and not filecmp.cmp(found[name], source, shallow=False):
        raise UserError(Problem(where=str(source), message=f"another task brings another {name}", remedy="rename one"))
    found[name] = source


def _data_files(document: Mapping[str, Any]) -> Iterator[str]:
    arguments = document.get("dataset_kwargs")
    files = arguments.get("data_files") if isinstance(arguments, dict) else None
    yield from (text for _, text in _texts(files))


def _data_file(name: str, path: Path, work_dir: Path) -> Path:
    beside = path.parent / name
    return beside if beside.exists() else work_dir / name


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _texts(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)


def _keys(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield str(name), item
            yield from _keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from _keys(item)
