"""Whatever a save dies of, and wherever: the checkpoint before is good, and the next attempt finds no half one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.checkpoint.manifest import committed_steps, read_manifest, step_folder
from launcher.checkpoint.tidy import tidy
from launcher.faultpoints import Point
from launcher.rundir import RunDir
from tests.checkpoint.folders import commit_step, is_good, make_run, names

KILLED = -signal.SIGKILL


def save(run: RunDir, step: int, attempt: int = 1, *, faults: Path | None = None, faulty: int = -1) -> list[int]:
    """Two ranks save, each a process; their exit codes."""
    environment: Mapping[str, str] = os.environ if faults is None else {**os.environ, "LAUNCHER_FAULTS": str(faults)}
    command = [sys.executable, "-m", "tests.checkpoint.save_process", str(run.root), str(step), str(attempt)]
    ranks = [subprocess.Popen([*command, str(rank), "2", str(faulty)], env=environment) for rank in (0, 1)]
    return [rank.wait(timeout=60) for rank in ranks]


def fault(folder: Path, point: Point, rank: int, action: str = "kill") -> Path:
    folder.mkdir()
    document = {"point": point.value, "step": 20, "rank": rank, "action": action}
    (folder / "one.json").write_text(json.dumps(document))
    return folder


def events(run: RunDir, name: str) -> list[dict[str, object]]:
    lines = run.events.read_text().splitlines() if run.events.exists() else []
    return [event for line in lines if (event := json.loads(line))["event"] == name]


def test_two_ranks_commit_one_checkpoint_and_leave_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for step in (10, 20, 30):
        assert save(run, step) == [0, 0]
    assert names(run.checkpoints) == ["latest", "step-00000020", "step-00000030"]
    assert names(step_folder(run.checkpoints, 30)) == ["manifest.json", "rank-0.pt", "rank-1.pt"]
    assert is_good(run.checkpoints, 30)
    manifest = read_manifest(step_folder(run.checkpoints, 30))
    assert manifest is not None
    assert (manifest.fingerprint, manifest.versions) == ({"config": "c"}, {"torch": "t"})
    assert [shard.rank for shard in manifest.shards] == [0, 1]
    assert (run.checkpoints / "latest").read_text() == "step-00000030"
    (told,) = [event for event in events(run, "checkpoint") if event["step"] == 30]
    assert told["size"] == sum(shard.size for shard in manifest.shards)
    assert told["stalled_s"] == 0.0


KILLS = [
    # Point, rank that is killed, whether the step is there afterwards: at once, after tidying.
    (Point.save_writing, 0, False, False),
    (Point.save_writing, 1, False, False),
    (Point.save_written, 1, False, False),
    (Point.save_listed, 0, False, None),
    (Point.save_listed, 1, True, True),
    (Point.save_manifest, 0, False, True),
    (Point.save_rename, 0, False, True),
    (Point.save_pointer, 0, True, True),
    (Point.save_prune, 0, True, True),
    (Point.save_done, 0, True, True),
]


@pytest.mark.parametrize(("point", "rank", "there", "recovered"), KILLS)
def test_a_kill_leaves_the_checkpoint_before_and_never_half_a_one(
    tmp_path: Path, point: Point, rank: int, there: bool, recovered: bool | None
) -> None:
    run = make_run(tmp_path / "run")
    assert save(run, 10) == [0, 0]
    codes = save(run, 20, faults=fault(tmp_path / "faults", point, rank))
    assert codes[rank] == KILLED
    assert is_good(run.checkpoints, 10)
    assert committed_steps(run.checkpoints) == ([10, 20] if there else [10])
    run.attempt(2).root.mkdir()
    steps = tidy(run, 2)
    if recovered is None:
        # It depends on which of the ranks was first.
        recovered = 20 in steps
    assert committed_steps(run.checkpoints) == ([10, 20] if recovered else [10])
    assert all(is_good(run.checkpoints, step) for step in committed_steps(run.checkpoints))
    assert steps == ([20] if recovered and not there else [])
    assert not [name for name in names(run.checkpoints) if name.startswith(".")]
    assert save(run, 20, attempt=2) == [0, 0]
    assert save(run, 30, attempt=2) == [0, 0]
    assert names(run.checkpoints) == ["latest", "step-00000020", "step-00000030"]
    assert (run.checkpoints / "latest").read_text() == "step-00000030"


@pytest.mark.parametrize(
    ("point", "rank"),
    [
        (Point.save_writing, 1),
        (Point.save_written, 0),
        (Point.save_written, 1),
        (Point.save_listed, 0),
        (Point.save_manifest, 0),
        (Point.save_rename, 0),
    ],
)
def test_a_full_disk_ends_the_save_frees_its_space_and_is_told(tmp_path: Path, point: Point, rank: int) -> None:
    run = make_run(tmp_path / "run")
    assert save(run, 10) == [0, 0]
    save(run, 20, faults=fault(tmp_path / "faults", point, rank, "disk_full"))
    if point is Point.save_writing:
        # The process of these tests has no writer that would keep the error.
        run.attempt(2).root.mkdir()
        tidy(run, 2)
    else:
        (told,) = events(run, "save_failed")
        assert told["step"] == 20
        assert "No space left" in str(told["reason"])
    assert names(run.checkpoints) == ["latest", "step-00000010"]
    assert save(run, 20, attempt=len(run.attempt_numbers())) == [0, 0]


@pytest.mark.parametrize("faulty", [0, 1])
def test_a_rank_that_cannot_write_ends_the_save_of_all(tmp_path: Path, faulty: int) -> None:
    run = make_run(tmp_path / "run")
    assert save(run, 10, faulty=faulty) == [3, 0]
    (told,) = events(run, "save_failed")
    assert told["reason"] == f"rank {faulty}: no room (injected)"
    assert names(run.checkpoints) == []


@pytest.mark.parametrize("point", [Point.save_pointer, Point.save_prune, Point.save_done])
def test_what_fails_after_the_commit_does_not_undo_it(tmp_path: Path, point: Point) -> None:
    run = make_run(tmp_path / "run")
    assert save(run, 20, faults=fault(tmp_path / "faults", point, 0, "disk_full")) == [0, 0]
    assert is_good(run.checkpoints, 20)
    assert len(events(run, "checkpoint")) == 1
    assert not events(run, "save_failed")


def test_an_attempt_that_is_no_longer_the_run_commits_prunes_and_points_to_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", attempts=2)
    for step in (1, 2, 3):
        commit_step(run.checkpoints, step)
    before = names(run.checkpoints)
    assert save(run, 20, attempt=1) == [3, 0]
    assert [name for name in names(run.checkpoints) if not name.startswith(".")] == before
    (told,) = events(run, "save_failed")
    assert told["reason"] == "attempt 2 has begun; attempt 1 is no longer the run"
    # Attempt 3 finds it whole, and of the same run.
    run.attempt(3).root.mkdir()
    assert tidy(run, 3) == [20]
