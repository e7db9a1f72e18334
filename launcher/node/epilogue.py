"""After the ranks: on the first node, records how the attempt ended. No torch.

`python -m launcher.node.epilogue RUN_DIR STATUS` runs once every rank is gone.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from launcher.node.prologue import end_attempt
from launcher.rundir import AttemptDir, RunDir
from launcher.runs.outcome import Ending


def epilogue(run: RunDir, attempt: int, job_id: str, exit_code: int) -> None:
    """Read what the ranks left behind and write the outcome."""
    folder = run.attempt(attempt)
    records = rank_records(folder)
    failed = sorted((item for item in records if item["state"] == Ending.failed.value), key=lambda item: item["time"])
    told = next((item for item in records if item["rank"] == 0), None)
    step = told["step"] if told is not None else None
    if failed:
        first = failed[0]
        reason = f"rank {first['rank']} on {first['host']}: {first['reason']}"
        end_attempt(run, attempt, job_id, Ending.failed, reason, exit_code or 1, first["step"])
    elif told is None or exit_code != 0:
        end_attempt(run, attempt, job_id, Ending.failed, _silent(folder, exit_code), exit_code or 1, step)
    else:
        end_attempt(run, attempt, job_id, Ending(told["state"]), told["reason"], 0, step)


def rank_records(folder: AttemptDir) -> list[dict[str, Any]]:
    """The words of the ranks that had time for one."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.root.glob("rank-*.json"))]


def _silent(folder: AttemptDir, exit_code: int) -> str:
    words = f"the ranks ended with exit code {exit_code} and left no word"
    if exit_code > 128:
        words = f"a rank was killed by signal {exit_code - 128}"
    return f"{words}; its log is in {folder.root}"


def main(run_dir: str, status: str) -> None:
    """Entry of the batch script."""
    epilogue(RunDir(Path(run_dir)), int(os.environ["LAUNCHER_ATTEMPT"]), os.environ["SLURM_JOB_ID"], int(status))


if __name__ == "__main__":
    main(*sys.argv[1:3])
