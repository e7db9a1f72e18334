"""Which file holds what a person wants to read, and reading it while it grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from launcher.errors import NotFoundError, Problem
from launcher.rundir import RunDir

POLL_S = 0.3
NOT_LOGS = (".pkl", ".sh", ".json")
"""What submitit keeps beside its logs."""


def find_log(run: RunDir, rank: int | None, attempt: int | None) -> Path:
    """The log of a rank (None: rank 0, or what there is before it starts) in an attempt (None: the latest)."""
    numbers = run.attempt_numbers()
    if attempt is not None and attempt not in numbers:
        raise _missing(run, f"attempt {attempt}", ", ".join(map(str, numbers)) or "(there is none yet)")
    if numbers:
        folder = run.attempt(attempt or numbers[-1])
        wanted = folder.rank_log(rank or 0)
        if wanted.is_file():
            return wanted
        if rank is None and folder.launch_log.is_file():
            return folder.launch_log
        if rank is not None:
            valid = _names(sorted(folder.root.glob("*.log"))) or "(there is none yet)"
            raise _missing(run, f"log of rank {rank} in {folder.root}", valid)
    return _submission_log(run)


def _submission_log(run: RunDir) -> Path:
    """What the executor wrote before any attempt began; the newest file that has something in it."""
    files = [file for file in run.submissions.glob("[0-9]*/*") if file.is_file() and file.suffix not in NOT_LOGS]
    written = [file for file in files if file.stat().st_size]
    if not written:
        raise _missing(run, "log", "(nothing was written yet)")
    return max(written, key=lambda file: (file.parent.name, file.stat().st_mtime_ns))


def _missing(run: RunDir, what: str, valid: str) -> NotFoundError:
    return NotFoundError(
        Problem(
            where=f"run {run.root.name}",
            message=f"there is no {what}",
            valid=valid,
            remedy=f"`launcher status {run.root.name}` says where the run stands",
        )
    )


def _names(files: list[Path]) -> str:
    return ", ".join(file.name for file in files)


def follow_log(find: Callable[[], Path], ended: Callable[[], bool], out: BinaryIO, say: Callable[[str], None]) -> None:
    """Copy the log to `out` as it grows, changing over when `find` names another one, until `ended`."""
    current: Path | None = None
    offset = 0
    while True:
        # Asked before the last look, so that nothing written in between is missed.
        over = ended()
        try:
            found = find()
        except NotFoundError:
            if over:
                raise
            found = None
        if found is not None and found != current:
            if current is not None:
                _copy(current, offset, out)
            say(f"==> {found}")
            current, offset = found, 0
        if current is not None:
            offset = _copy(current, offset, out)
        if over:
            return
        time.sleep(POLL_S)


def _copy(path: Path, offset: int, out: BinaryIO) -> int:
    """Write what `path` holds from byte `offset` on; returns where it stopped."""
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(1 << 16):
            out.write(block)
            offset += len(block)
    out.flush()
    return offset


def print_log(path: Path, out: BinaryIO) -> None:
    """Copy a whole log."""
    _copy(path, 0, out)
