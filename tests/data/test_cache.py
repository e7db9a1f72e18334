"""The folder that prepared data is kept in: what lies there, and what is swept away."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.data.make.finish import finish
from launcher.data.make.prepare import Sizes, prepare
from launcher.data.make.progress import Progress
from launcher.data.make.tokenise import Job
from launcher.data.source import DataSpec
from launcher.data.tokens import TokenStore
from launcher.digest import file_sha256
from launcher.errors import LauncherError

WriteRows = Callable[..., Path]
MakeSpec = Callable[..., DataSpec]
DAY_S = 86_400


def chat_row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def spec(write_rows: WriteRows, make_spec: MakeSpec) -> DataSpec:
    return make_spec(write_rows([chat_row(f"question {n}", "yes " * (n % 7 + 1)) for n in range(40)]))


def test_rows_are_the_same_in_many_files_as_in_one(spec: DataSpec, tmp_path: Path) -> None:
    one = TokenStore(prepare(spec, tmp_path / "one", workers=1))
    many = TokenStore(prepare(spec, tmp_path / "many", workers=1, sizes=Sizes(shard_tokens=100)))
    shards = sorted(many.folder.glob("tokens-*.bin"))
    assert len(shards) > 5
    assert max(path.stat().st_size for path in shards) <= 400
    assert len(one) == len(many) == 40
    for index in range(40):
        for mine, theirs in zip(one.row(index), many.row(index), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_every_file_has_the_size_and_hash_that_are_noted(spec: DataSpec, tmp_path: Path) -> None:
    folder = prepare(spec, tmp_path, workers=1, sizes=Sizes(shard_tokens=100))
    marks = TokenStore(folder).meta.files
    assert {"meta.json", *marks} == {path.name for path in folder.iterdir()}
    for name, mark in marks.items():
        assert (mark.bytes, mark.sha256) == ((folder / name).stat().st_size, file_sha256(folder / name))


def make_old(folder: Path, days: int) -> Path:
    """A folder with a file, both last written so long ago."""
    folder.mkdir(parents=True)
    (folder / "file").touch()
    for path in (folder / "file", folder):
        os.utime(path, (time.time() - days * DAY_S,) * 2)
    return folder


def test_what_nobody_came_back_to_is_swept_away(spec: DataSpec, tmp_path: Path) -> None:
    make_old(tmp_path / ".0123.work", 8)
    make_old(tmp_path / ".0123.work.1-2.gone", 0)
    young = make_old(tmp_path / ".4567.work", 6)
    other = make_old(tmp_path / "89ab", 100)
    folder = prepare(spec, tmp_path, workers=1)
    assert set(tmp_path.iterdir()) >= {folder, young, other}
    assert not list(tmp_path.glob(".0123*"))


def test_private_folders_go_with_the_processes_that_made_them(
    spec: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    host = socket.gethostname()
    kept: list[str] = []

    def leave(progress: Progress) -> None:
        (work,) = tmp_path.glob(".*.work")
        make_old(work / f"assembly-{dead.pid}-{host}-a", 0)
        make_old(work / f"assembly-{os.getpid()}-{host}-b", 30)
        make_old(work / "assembly-1-elsewhere-c", 0)
        make_old(work / "assembly-1-elsewhere-d", 2)

    def look_and_finish(job: Job, *given: Any, **named: Any) -> Path:
        kept.extend(found.name.rsplit("-", 1)[1] for found in job.work.glob("assembly-*"))
        return finish(job, *given, **named)

    monkeypatch.setattr("launcher.data.make.prepare.finish", look_and_finish)
    prepare(spec, tmp_path, workers=1, report=leave)
    assert {name for name in kept if len(name) == 1} == {"b", "c"}


def test_a_work_folder_that_vanishes_is_made_again(spec: DataSpec, tmp_path: Path) -> None:
    undisturbed = prepare(spec, tmp_path / "undisturbed", workers=1)
    taken: list[Path] = []

    def take(progress: Progress) -> None:
        if not taken:
            taken.extend(tmp_path.glob(".*.work"))
            shutil.rmtree(taken[0])

    folder = prepare(spec, tmp_path, workers=1, report=take, sizes=Sizes(piece_bytes=500))
    assert taken
    assert TokenStore(folder).meta == TokenStore(undisturbed).meta


def test_a_work_folder_that_keeps_vanishing_is_told(spec: DataSpec, tmp_path: Path) -> None:
    def take(progress: Progress) -> None:
        for work in tmp_path.glob(".*.work"):
            shutil.rmtree(work)

    with pytest.raises(LauncherError, match="was taken away 5 times"):
        prepare(spec, tmp_path, workers=1, report=take, sizes=Sizes(piece_bytes=500))
