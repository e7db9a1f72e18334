"""A rank that takes too long leaves its stacks and ends, also when no Python can run any more."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, sys, time
from pathlib import Path
from launcher.config.survival import WatchdogConfig
from launcher.node import watchdog
watchdog.GRACE_S = 0.2
limits = WatchdogConfig(start_s=30, step_s={step_s}, save_s=1, end_s=1)
dog = watchdog.Watchdog(limits, Path(sys.argv[1]))
dog.start()
{body}
"""


def run(tmp_path: Path, body: str, step_s: str = "1") -> tuple[int, str]:
    stacks = tmp_path / "rank-00000.stacks"
    program = PROGRAM.format(body=body, step_s=step_s)
    process = subprocess.run([sys.executable, "-c", program, stacks], check=False, timeout=60)
    return process.returncode, stacks.read_text() if stacks.exists() else ""


@pytest.mark.parametrize(
    ("phase", "body"),
    [
        ("end", "dog.end()\ntime.sleep(60)"),
        ("save", "with dog.saving(): time.sleep(60)"),
        # PyDLL holds the interpreter's lock while C sleeps: no handler and no thread of Python can run.
        ("end", "dog.end()\nctypes.PyDLL(None).sleep(60)"),
    ],
)
def test_a_stuck_phase_leaves_its_stacks_and_ends_the_process(tmp_path: Path, phase: str, body: str) -> None:
    status, stacks = run(tmp_path, body)
    assert status == -signal.SIGALRM
    assert f"phase {phase}" in stacks
    assert "Timeout (" in stacks
    assert "<module>" in stacks


def test_the_first_step_has_the_time_of_a_start(tmp_path: Path) -> None:
    assert run(tmp_path, "dog.step()\ntime.sleep(2)\ndog.off()") == (0, "")


def test_a_later_step_has_its_own_limit_or_ten_times_the_slowest_one(tmp_path: Path) -> None:
    slow = "dog.step()\ntime.sleep(0.5)\ndog.step()\ntime.sleep(2)\ndog.off()"
    assert run(tmp_path, slow) == (0, "")
    fast = "dog.step()\ntime.sleep(0.01)\ndog.step()\ntime.sleep(60)"
    assert run(tmp_path, fast)[0] == -signal.SIGALRM


def test_null_never_ends_anything_and_a_good_end_leaves_no_file(tmp_path: Path) -> None:
    assert run(tmp_path, "dog.step(); dog.step()\ntime.sleep(1.5)\ndog.off()", step_s="None") == (0, "")
