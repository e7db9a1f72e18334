"""Fixtures that several folders share: a model directory, rows, a folder to work in, golden files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from absl import logging as absl_logging

from launcher.plan.room import Room
from tests.fakes import FakeSlurm, write_rows, write_tiny_model
from tests.warm import AT_START

GOLDEN = Path(__file__).parent / "golden"

# rouge_score brings it. Its handler would keep the file that pytest captures into, and close it as soon as anybody
# configures logging anew.
absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is seen to tests/golden/")
    parser.addoption("--fuzz", type=int, metavar="N", help="how many configs tests/config/test_fuzz.py makes up")


def put_back(before: Mapping[str, str]) -> None:
    """Give the process the variables that it had, but for pytest's own."""
    for name in {name for name, _ in before.items() ^ os.environ.items() if not name.startswith("PYTEST_")}:
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]


def pytest_collection_finish() -> None:
    """What test files import sets variables, with which no training would be forked."""
    put_back(AT_START)


@pytest.fixture(autouse=True, scope="module")
def same_environment_in_files() -> Iterator[None]:
    """What fixtures and tests of a file import or call sets variables, too; no later file sees them."""
    before = dict(os.environ)
    yield
    put_back(before)


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Nor does a later test."""
    before = dict(os.environ)
    yield
    put_back(before)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory without weights."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that commands are typed in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LAUNCHER_RUNS_ROOT", raising=False)
    return folder


@pytest.fixture
def demo(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in where the recipe `demo` can be planned; returns where its data is."""
    data = tmp_path / "demo"
    write_tiny_model(data / "model")
    write_rows(data / "train.jsonl", 8)
    write_rows(data / "held_out.jsonl", 2)
    monkeypatch.setenv("LAUNCHER_DEMO_DATA", str(data))
    return data


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which everything fits."""
    room = Room(free_gb=1e6, free_files=None)
    monkeypatch.setattr("launcher.plan.build.room_at", lambda folder: room)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """Slurm's commands, answering as they are told."""
    fake = FakeSlurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{fake.bin}:/usr/bin:/bin")
    return fake


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with tests/golden/NAME, or write it there with --update-golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.is_file(), f"{path} is missing: run pytest with --update-golden, and read what it wrote"
        assert text == path.read_text(), f"{name} has changed; if it should, run pytest with --update-golden"

    return check


LONGEST = (
    "test_survive.py",
    "test_chaos.py",
    "test_resume.py",
    "test_runs.py",
    "test_training.py",
    "test_world_size.py",
    "test_muon.py",
    "test_rollout_training.py",
    "test_harness.py",
    "test_wandb.py",
)
"""Files that take minutes each."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, the longest files go first: left for the end, one of them would hold up the rest alone."""
    if config.getoption("dist", "no") == "loadfile":
        places = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))
