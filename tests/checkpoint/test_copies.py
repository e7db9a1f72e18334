"""A universal copy belongs to one checkpoint, is chosen only while it is whole, and goes with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist

from launcher.checkpoint.copies import (
    convert_apart,
    due_for_conversion,
    prune_universal,
    read_universal,
    universal_folder,
)
from launcher.checkpoint.manifest import (
    MANIFEST,
    MANIFEST_VERSION,
    Manifest,
    Shard,
    committed_steps,
    read_manifest,
    step_folder,
)
from launcher.checkpoint.resume import newest_good_all
from launcher.digest import file_sha256
from launcher.errors import UserError
from launcher.rundir import RunDir


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def commit(checkpoints: Path, step: int, *, ranks: int, stage: int = 3, attempt: int = 1) -> Manifest:
    """A checkpoint that so many ranks wrote, of one small file."""
    return _seal(
        step_folder(checkpoints, step),
        Manifest(
            version=MANIFEST_VERSION,
            step=step,
            total_steps=9,
            tokens=1,
            attempt=attempt,
            world_size=ranks,
            zero_stage=stage,
            dtype="bf16",
            data="d",
            shards=[],
        ),
    )


def copy(checkpoints: Path, manifest: Manifest) -> Manifest:
    """What a conversion would leave."""
    return _seal(universal_folder(checkpoints, manifest.step), manifest)


def _seal(folder: Path, manifest: Manifest) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.pt").write_bytes(b"weights")
    shard = Shard(name="a.pt", size=7, sha256=file_sha256(folder / "a.pt"), rank=0)
    sealed = replace(manifest, shards=[shard])
    sealed.write(folder)
    return sealed


def test_a_copy_is_no_checkpoint(tmp_path: Path) -> None:
    copy(tmp_path, commit(tmp_path, 5, ranks=4))
    assert committed_steps(tmp_path) == [5]


def test_a_conversion_is_due_where_the_newest_was_written_by_other_ranks(tmp_path: Path) -> None:
    assert due_for_conversion(tmp_path, 2) is None
    commit(tmp_path, 5, ranks=4)
    due = due_for_conversion(tmp_path, 2)
    assert due is not None
    assert due.step == 5
    assert due_for_conversion(tmp_path, 4) is None
    commit(tmp_path, 6, ranks=2)
    assert due_for_conversion(tmp_path, 2) is None
    (step_folder(tmp_path, 6) / MANIFEST).write_text("{")
    assert due_for_conversion(tmp_path, 2) is not None


def test_stage_0_needs_no_copy(tmp_path: Path, one_rank: None) -> None:
    commit(tmp_path, 5, ranks=4, stage=0)
    assert due_for_conversion(tmp_path, 1) is None
    chosen, _ = newest_good_all(tmp_path)
    assert chosen is not None
    assert (chosen.folder, chosen.universal) == (step_folder(tmp_path, 5), False)


def test_a_copy_of_a_timeline_that_was_left_is_none(tmp_path: Path) -> None:
    copy(tmp_path, commit(tmp_path, 5, ranks=4, attempt=1))
    again = commit(tmp_path, 5, ranks=4, attempt=3)
    assert read_universal(tmp_path, again) is None
    copy(tmp_path, again)
    assert read_universal(tmp_path, again) is not None


def test_the_copy_is_chosen_where_other_ranks_wrote_the_checkpoint(tmp_path: Path, one_rank: None) -> None:
    copy(tmp_path, commit(tmp_path, 5, ranks=4))
    chosen, passed = newest_good_all(tmp_path)
    assert passed == []
    assert chosen is not None
    assert (chosen.folder, chosen.universal) == (universal_folder(tmp_path, 5), True)
    commit(tmp_path, 6, ranks=1)
    chosen, _ = newest_good_all(tmp_path)
    assert chosen is not None
    assert (chosen.folder, chosen.universal) == (step_folder(tmp_path, 6), False)


def test_what_cannot_be_used_is_passed_over_with_the_reason(tmp_path: Path, one_rank: None) -> None:
    for step in (4, 5, 6, 7):
        commit(tmp_path, step, ranks=4)
    for step in (4, 5):
        manifest = read_manifest(step_folder(tmp_path, step))
        assert manifest is not None
        copy(tmp_path, manifest)
    (universal_folder(tmp_path, 5) / "a.pt").write_bytes(b"weighty")
    (step_folder(tmp_path, 6) / "a.pt").write_bytes(b"weighty")
    chosen, passed = newest_good_all(tmp_path)
    assert chosen is not None
    assert chosen.manifest.step == 4
    assert [step for step, _ in passed] == [7, 6, 5]
    assert passed[0][1] == "it was written by 4 ranks and has no universal copy"
    assert all("has changed" in reason for _, reason in passed[1:])


def test_copies_go_with_their_checkpoints(tmp_path: Path) -> None:
    for step in (5, 10):
        copy(tmp_path, commit(tmp_path, step, ranks=4))
    prune_universal(tmp_path, [10, 15])
    assert not universal_folder(tmp_path, 5).exists()
    assert universal_folder(tmp_path, 10).is_dir()
    assert committed_steps(tmp_path) == [5, 10]


def test_a_conversion_that_fails_says_why_and_what_to_do(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "demo-1")
    commit(run.checkpoints, 5, ranks=4)
    with pytest.raises(UserError) as caught:
        convert_apart(run, 2)
    (problem,) = caught.value.problems
    assert problem.where == "checkpoint at step 5"
    assert "4 ranks wrote it" in problem.message
    assert "there is no plan here" in problem.message
    assert "launcher resume demo-1" in problem.remedy
