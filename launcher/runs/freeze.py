"""A plan becomes a run directory: config, plan, environment and a snapshot of the code, private to its owner.

From here on nothing that is edited outside the run directory reaches the run.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import launcher
from launcher.checkpoint.lineage import lineage_of, write_lineage
from launcher.config.compose import as_yaml
from launcher.errors import Problem, UserError
from launcher.objectives.registry import objective_of
from launcher.publish import json_text, publish_json, publish_text
from launcher.remember import remembered
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.secrets import redacted

MOST_DIFF_BYTES = 4 << 20
"""A larger diff is cut: generated files, most likely."""


def freeze(plan: RunPlan, typed: Sequence[str]) -> RunDir:
    """Write the run directory; UserError if it cannot be written. Whatever stops it, nothing is left behind."""
    run = RunDir(Path(plan.run_dir))
    try:
        with writing(run):
            make_folders(run)
            snapshot(run.code)
            write_plan(run, plan, typed)
            write_lineage(run, lineage_of(plan.config.model))
    except BaseException:
        shutil.rmtree(run.root, ignore_errors=True)
        raise
    return run


@contextmanager
def writing(run: RunDir) -> Iterator[None]:
    """What the disk refuses inside the block is the fault of `runs_root`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            Problem(
                where="runs_root",
                message=f"{error.filename or run.root} cannot be written ({error.strerror})",
                remedy="write runs_root=DIR, or set LAUNCHER_RUNS_ROOT, to a folder of yours on the shared file system",
            )
        ) from error


def make_folders(run: RunDir) -> None:
    """The run directory with the folders that every run has."""
    run.root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    run.root.mkdir(mode=0o700)
    for folder in (run.submissions, run.attempts, run.checkpoints):
        folder.mkdir(mode=0o700)


def write_plan(run: RunDir, plan: RunPlan, typed: Sequence[str]) -> None:
    """The plan, the config it came from, what was typed, and in which environment."""
    publish_json(run.environment, environment())
    for path, text in frozen_texts(run, plan, typed).items():
        publish_text(path, text)


def frozen_texts(run: RunDir, plan: RunPlan, typed: Sequence[str]) -> dict[Path, str]:
    """The run's own frozen files, the plan last: with it there is a run."""
    texts = {}
    if plan.config.data.chat_template is not None:
        texts[run.chat_template] = Path(plan.config.data.chat_template).read_text(encoding="utf-8")
    if plan.config.cluster.prologue is not None:
        texts[run.prologue] = Path(plan.config.cluster.prologue).read_text(encoding="utf-8")
    rollouts = objective_of(plan.config).needs.rollouts
    if rollouts is not None and not rollouts.by_model:
        texts[run.reward] = Path(rollouts.reward).read_text(encoding="utf-8")
    texts[run.config] = as_yaml(plan.config)
    texts[run.overrides] = "".join(f"{word}\n" for word in typed)
    texts[run.plan] = _json(plan.to_json())
    return texts


def _json(document: dict[str, Any]) -> str:
    """What `json_text` gives, from parts: most members of a sweep have most of them in common."""
    parts = [_json_part({key: value}) for key, value in document.items() if key != "config"]
    config = [_json_part({key: value}).replace("\n", "\n  ") for key, value in document["config"].items()]
    place = list(document).index("config")
    parts.insert(place, f'\n  "config": {{{",".join(config)}\n  }}')
    return "{" + ",".join(parts) + "\n}\n"


@remembered
def _json_part(part: dict[str, Any]) -> str:
    """One key and its value, as they stand between the braces."""
    return json_text(part).removeprefix("{").removesuffix("\n}\n")


def snapshot(code: Path) -> None:
    """Copy this package's sources to `code`, for the nodes to import."""
    package = Path(launcher.__file__).resolve().parent
    for source in package.rglob("*.py"):
        copy = code / source.relative_to(package.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        # Content only: the modes of an installed package would open a private folder.
        shutil.copyfile(source, copy)


def environment() -> dict[str, Any]:
    """Interpreter, packages, and the commit and diff of the work directory. No environment variables."""
    # Each look at `metadata` parses it anew, and every submission waits for it.
    known = [dist.metadata for dist in importlib.metadata.distributions()]
    packages = {told["Name"]: told["Version"] for told in known}
    return {
        "launcher": launcher.__version__,
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "git": git_state(Path.cwd()),
    }


def git_state(folder: Path) -> dict[str, str] | None:
    """Commit and uncommitted diff of the checkout around `folder`; None outside one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _git(folder, "diff", "HEAD", "--no-ext-diff", "--no-textconv") or ""
    return {"commit": commit.strip(), "diff": redacted(diff[:MOST_DIFF_BYTES])}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.decode(errors="replace") if result.returncode == 0 else None
