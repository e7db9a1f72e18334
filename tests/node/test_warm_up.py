"""Locks of compilers that were killed do not stop every later run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.node.warm_up import LONG_S, drop_dead_locks, own_extensions


def lock(folder: Path, name: str, age_s: float) -> Path:
    path = folder / name / "lock"
    path.parent.mkdir()
    path.touch()
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


def test_a_lock_that_nobody_works_under_any_more_goes(tmp_path: Path) -> None:
    dead, fresh, held = (lock(tmp_path, *of) for of in (("a", 2 * LONG_S), ("b", 1), ("c", 2 * LONG_S)))
    with subprocess.Popen(["sleep", "60"], cwd=held.parent) as compiler:
        drop_dead_locks(tmp_path)
        compiler.kill()
    assert [path.exists() for path in (dead, fresh, held)] == [False, True, True]


def test_the_environments_own_ninja_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("system/bin", "environment/bin"):
        ninja = tmp_path / folder / "ninja"
        ninja.parent.mkdir(parents=True)
        ninja.touch(mode=0o755)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    monkeypatch.setenv("PATH", str(tmp_path / "system" / "bin"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    own_extensions()
    own_extensions()
    assert shutil.which("ninja") == str(tmp_path / "environment" / "bin" / "ninja")
    assert len(os.environ["PATH"].split(os.pathsep)) == 2
