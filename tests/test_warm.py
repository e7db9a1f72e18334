"""A process that is forked ends, fails, is signalled and is told its place as one that was started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.warm import AT_START, Popen, forks_here

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(not forks_here(), reason="there are GPUs here, or LAUNCHER_TESTS_WARM=0"),
]

TOLD = """
import json, os, signal, sys, threading
import launcher
def main():
    print(json.dumps({
        "argv": sys.argv[1:], "cwd": os.getcwd(), "path": sys.path[:2], "mine": os.environ.get("LAUNCHER_MINE"),
        "parent": os.getppid(), "session": os.getsid(0) == os.getpid(), "launcher": launcher.__file__,
        "torch": "torch" in sys.modules, "main": sys.modules["__main__"].__spec__.name,
        "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "threads": threading.active_count(), "open": len(os.listdir("/proc/self/fd")),
    }))
    print("on the other stream", file=sys.stderr)
    end = sys.argv[1]
    if end == "raise":
        raise ValueError("no")
    if end == "wait":
        sys.stdout.flush()
        signal.pause()
    sys.exit(end if end == "words" else int(end))
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Where a module of that name lies in place of the project's."""
    (tmp_path / "launcher").mkdir()
    (tmp_path / "launcher" / "__init__.py").touch()
    (tmp_path / "launcher" / "told.py").write_text(TOLD)
    return tmp_path


def start(package: Path, end: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    variables = {**AT_START, "PYTHONPATH": str(package), "LAUNCHER_MINE": "x", **(environment or {})}
    command = [sys.executable, "-m", "launcher.told", end]
    pipe = subprocess.PIPE
    return Popen(command, cwd=package, env=variables, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


@pytest.mark.parametrize(
    ("end", "status", "says"), [("0", 0, ""), ("5", 5, ""), ("words", 1, "words"), ("raise", 1, "ValueError: no")]
)
def test_it_is_told_its_place_and_ends_with_its_status(package: Path, end: str, status: int, says: str) -> None:
    process = start(package, end)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == status
    told = json.loads(output)
    assert told["argv"] == [end]
    assert told["cwd"] == told["path"][0] == str(package)
    assert told["mine"] == "x"
    assert told["launcher"] == str(package / "launcher" / "__init__.py")
    assert told["main"] == "launcher.told"
    assert told["parent"] == os.getpid()
    assert told["session"]
    assert told["interrupt"]
    assert told["threads"] == 1
    assert told["torch"], "it was started, not forked"
    # The three streams, the folder that is being read, and the line to who forks its children.
    assert told["open"] <= 5
    assert errors.startswith("on the other stream\n")
    assert says in errors


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_as_it_ends_others(package: Path, number: signal.Signals) -> None:
    process = start(package, "wait")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number


def test_a_variable_that_is_read_at_import_makes_it_an_interpreter(package: Path) -> None:
    with pytest.warns(match="HF_HUB_OFFLINE"):
        output, _ = start(package, "0", {"HF_HUB_OFFLINE": "1"}).communicate(timeout=60)
    assert not json.loads(output)["torch"]


LEAVING = """
import os, pytest
@pytest.fixture(scope="module")
def of_all(): os.environ["HF_HUB_OFFLINE"] = "1"
def test_one(of_all): del os.environ["LAUNCHER_MINE"]; os.environ["HF_TOKEN"] = ""
def test_two(): assert "HF_TOKEN" not in os.environ and os.environ["LAUNCHER_MINE"] == "x"
"""


def test_what_a_test_or_a_file_sets_is_gone_with_it(package: Path, request: pytest.FixtureRequest) -> None:
    (package / "test_first.py").write_text(LEAVING)
    (package / "test_second.py").write_text("import os\ndef test_it(): assert 'HF_HUB_OFFLINE' not in os.environ")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(package)]
    variables = {**AT_START, "LAUNCHER_MINE": "x"}
    told = subprocess.run(command, cwd=request.config.rootpath, env=variables, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout
