"""What a dead attempt left: recovered if it was whole to the last byte, removed if not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.checkpoint.commit import commit, put_in_place
from launcher.checkpoint.manifest import committed_steps, step_folder
from launcher.checkpoint.tidy import discard_unfinished, tidy
from launcher.checkpoint.unfinished import RankList, begin, tell, unfinished_folder, with_shards
from launcher.rundir import RunDir
from tests.checkpoint.folders import commit_step, draft, is_good, make_run, names, write_shard


def half_done(run: RunDir, step: int, attempt: int, told: int = 2, error: str | None = None) -> Path:
    """A save by two ranks, of which so many told that they were done."""
    folder = unfinished_folder(run.checkpoints, step, attempt)
    begin(folder, draft(step, attempt=attempt, world_size=2))
    for rank in range(told):
        shard = write_shard(folder, f"{rank}.pt", f"attempt {attempt}, rank {rank}".encode(), rank)
        tell(folder, RankList(rank=rank, shards=[shard], error=error if rank == 1 else None))
    return folder


def test_a_whole_save_is_committed_and_recorded(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=2)
    half_done(run, 50, attempt=1)
    assert tidy(run, 2) == [50]
    assert is_good(run.checkpoints, 50)
    assert names(step_folder(run.checkpoints, 50)) == ["0.pt", "1.pt", "manifest.json"]
    event = json.loads(run.events.read_text())
    assert (event["event"], event["step"], event["attempt"]) == ("checkpoint", 50, 2)
    assert tidy(run, 2) == []


def flip(folder: Path) -> None:
    content = (folder / "1.pt").read_bytes()
    (folder / "1.pt").write_bytes(content[:-1] + b"x")


@pytest.mark.parametrize(
    "spoil",
    [
        flip,
        lambda folder: (folder / "0.pt").unlink(),
        lambda folder: (folder / "1.pt").write_bytes(b""),
        lambda folder: (folder / "position.json").unlink(),
        lambda folder: (folder / "written" / "rank-00001.json").unlink(),
        lambda folder: (folder / "written" / "rank-00000.json").write_text("{"),
    ],
)
def test_anything_less_than_whole_is_removed(tmp_path: Path, spoil: object) -> None:
    run = make_run(tmp_path, attempts=2)
    assert callable(spoil)
    spoil(half_done(run, 50, attempt=1))
    assert tidy(run, 2) == []
    assert names(run.checkpoints) == []


def test_a_save_that_failed_is_removed(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=2)
    half_done(run, 50, attempt=1, error="no room")
    assert tidy(run, 2) == []
    assert names(run.checkpoints) == []


def test_a_save_under_way_and_one_of_a_later_attempt_are_left_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=2)
    folder = half_done(run, 50, attempt=2)
    assert tidy(run, 2) == []
    assert tidy(run, 1) == []
    assert names(run.checkpoints) == [folder.name]


def test_a_step_that_was_written_again_is_the_later_one_at_every_moment(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=3)
    commit_step(run.checkpoints, 50, b"attempt 1")
    folder = half_done(run, 50, attempt=2)
    assert is_good(run.checkpoints, 50)
    # The process dies between the two renames.
    step_folder(run.checkpoints, 50).rename(run.checkpoints / ".old-step-00000050")
    assert tidy(run, 3) == [50]
    assert not folder.exists()
    assert (step_folder(run.checkpoints, 50) / "0.pt").read_bytes() == b"attempt 2, rank 0"
    assert names(run.checkpoints) == ["latest", "step-00000050"]


def test_a_checkpoint_that_was_moved_aside_for_nothing_comes_back(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=3)
    commit_step(run.checkpoints, 50)
    flip(half_done(run, 50, attempt=2))
    step_folder(run.checkpoints, 50).rename(run.checkpoints / ".old-step-00000050")
    assert tidy(run, 3) == []
    assert names(run.checkpoints) == ["step-00000050"]
    assert is_good(run.checkpoints, 50)


def test_a_rename_that_fails_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    commit_step(run.checkpoints, 50)
    with pytest.raises(OSError, match="No such file"):
        put_in_place(run.checkpoints / "missing", step_folder(run.checkpoints, 50))
    assert is_good(run.checkpoints, 50)


def test_a_commit_replaces_what_a_rollback_left_behind(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=2)
    commit_step(run.checkpoints, 50)
    (step_folder(run.checkpoints, 50) / "manifest.json").rename(
        step_folder(run.checkpoints, 50) / "manifest.json.superseded"
    )
    folder = half_done(run, 50, attempt=2, told=0)
    shard = write_shard(folder, "0.pt", b"new")
    commit(run, folder, with_shards(draft(50, attempt=2), [RankList(rank=0, shards=[shard], error=None)]), attempt=2)
    assert names(run.checkpoints) == ["step-00000050"]
    assert names(step_folder(run.checkpoints, 50)) == ["0.pt", "manifest.json"]


def test_who_goes_back_to_a_step_does_not_get_a_later_one_recovered(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=2)
    commit_step(run.checkpoints, 20)
    half_done(run, 20, attempt=1)
    half_done(run, 50, attempt=1)
    discard_unfinished(run.checkpoints, after_step=20)
    assert tidy(run, 2) == [20]
    assert committed_steps(run.checkpoints) == [20]


def test_leftovers_of_removals_go(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=2)
    (run.checkpoints / ".gone-step-00000010" / "deep").mkdir(parents=True)
    tidy(run, 2)
    assert names(run.checkpoints) == []


def test_a_pointer_that_was_never_whole_goes(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=2)
    commit_step(run.checkpoints, 50)
    before = names(run.checkpoints)
    (run.checkpoints / ".latest.4711.tmp").write_text("step-000")
    tidy(run, 2)
    assert names(run.checkpoints) == before
