"""A folder is a checkpoint once its manifest is there, and as long as its shards are as the manifest says."""

from __future__ import annotations

from pathlib import Path

from launcher.checkpoint.manifest import (
    MANIFEST_VERSION,
    Manifest,
    Shard,
    committed_steps,
    fault,
    read_manifest,
    step_folder,
)
from launcher.checkpoint.save import prune
from launcher.digest import file_sha256


def commit(checkpoints: Path, step: int) -> Shard:
    folder = step_folder(checkpoints, step)
    folder.mkdir(parents=True)
    (folder / "a.pt").write_bytes(b"weights")
    shard = Shard(name="a.pt", size=7, sha256=file_sha256(folder / "a.pt"), rank=0)
    Manifest(
        version=MANIFEST_VERSION,
        step=step,
        total_steps=9,
        tokens=1,
        attempt=1,
        world_size=1,
        zero_stage=3,
        dtype="bf16",
        data="d",
        shards=[shard],
    ).write(folder)
    return shard


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    commit(tmp_path, 5)
    step_folder(tmp_path, 10).mkdir()
    assert committed_steps(tmp_path) == [5]
    assert read_manifest(step_folder(tmp_path, 10)) is None


def test_a_manifest_reads_back_as_written(tmp_path: Path) -> None:
    shard = commit(tmp_path, 5)
    manifest = read_manifest(step_folder(tmp_path, 5))
    assert manifest is not None
    assert manifest.shards == [shard]


def test_half_a_manifest_is_none(tmp_path: Path) -> None:
    commit(tmp_path, 5)
    path = step_folder(tmp_path, 5) / "manifest.json"
    path.write_bytes(path.read_bytes()[:40])
    assert read_manifest(path.parent) is None


def test_size_content_and_absence_of_a_shard_are_told_apart(tmp_path: Path) -> None:
    shard, folder = commit(tmp_path, 5), step_folder(tmp_path, 5)
    assert fault(folder, shard, content=True) is None
    (folder / "a.pt").write_bytes(b"weighty")
    assert fault(folder, shard, content=False) is None
    assert "has changed" in (fault(folder, shard, content=True) or "")
    (folder / "a.pt").write_bytes(b"w")
    assert "1 bytes instead of 7" in (fault(folder, shard, content=False) or "")
    (folder / "a.pt").unlink()
    assert "cannot be read" in (fault(folder, shard, content=False) or "")


def test_pruning_keeps_the_newest(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        commit(tmp_path, step)
    prune(tmp_path, 2)
    assert committed_steps(tmp_path) == [10, 15]
    assert not step_folder(tmp_path, 5).exists()
