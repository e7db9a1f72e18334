"""What follows training, as far as it can be known before: whether its tasks exist, and the memory an export takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from launcher.config.schema import Config, Dtype
from launcher.config.then import Stage
from launcher.errors import LauncherError, Problem, closest_first
from launcher.evaluate.task_files import is_file, read_tasks
from launcher.evaluate.task_names import installed, unknown
from launcher.runplan import Memory

KEY = "then.tasks"


def task_problems(config: Config, work_dir: Path) -> Iterator[Problem]:
    """Tasks that no job could ask: files that cannot be read, names that the harness does not know."""
    if Stage.eval not in config.then.stages:
        return
    if not installed():
        remedy = "pip install 'zero-launcher[eval]', in the environment that the nodes use"
        yield Problem(where=KEY, message="lm-evaluation-harness is not installed in this environment", remedy=remedy)
        return
    files = [task for task in config.then.tasks if is_file(task)]
    try:
        read_tasks(files, work_dir)
    except LauncherError as error:
        yield from (replace(problem, where=f"{KEY} ({problem.where})") for problem in error.problems)
    missing, known = unknown([task for task in config.then.tasks if not is_file(task)])
    for name in missing:
        yield Problem(
            where=KEY,
            message=f"lm-evaluation-harness has no task {name!r}",
            valid=", ".join(closest_first(name, known)),
            remedy="a file of your own ends in .yaml",
        )


FILE_GB = 5.0
"""Largest file of an export (`checkpoint.export.SHARD_SIZE`)."""
PROCESS_GB = 2.0
"""The process itself, amply: it was seen to hold 0.3."""
JOINED_STAGES = (1, 2)
"""ZeRO stages whose checkpoints DeepSpeed joins whole."""


def export_gb(config: Config, memory: Memory) -> int:
    """Host memory of an export, GB: trained weights in fp32 where they are joined, a file, and a tensor in fp32."""
    size = 4 if config.precision.dtype is Dtype.fp32 else 2
    file = min(FILE_GB, size * memory.parameters / 1e9)
    joined = 4 * memory.trained / 1e9 if config.zero.stage in JOINED_STAGES else 0.0
    # No tensor is larger than a file but for its precision.
    return math.ceil(PROCESS_GB + joined + file + 4 / size * file)
