"""A process of this machine, named so that no later process shares the name."""

from __future__ import annotations

from pathlib import Path


def process_id(pid: int) -> str | None:
    """PID.START, where START is the boot-relative start time; None for a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Fields 3 (state) and 22 (start time, in clock ticks) of proc(5).
    return None if fields[0] == "Z" else f"{pid}.{fields[19]}"
