"""A folder is a checkpoint once its manifest is there, and as long as its shards are as the manifest says."""

from __future__ import annotations

from pathlib import Path

from launcher.checkpoint.manifest import committed_steps, fault, read_manifest, step_folder
from tests.checkpoint.folders import commit_step


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    commit_step(tmp_path, 5)
    step_folder(tmp_path, 10).mkdir()
    assert committed_steps(tmp_path) == [5]
    assert read_manifest(step_folder(tmp_path, 10)) is None


def test_a_manifest_reads_back_as_written(tmp_path: Path) -> None:
    shard = commit_step(tmp_path, 5)
    manifest = read_manifest(step_folder(tmp_path, 5))
    assert manifest is not None
    assert manifest.shards == [shard]


def test_half_a_manifest_is_none(tmp_path: Path) -> None:
    commit_step(tmp_path, 5)
    path = step_folder(tmp_path, 5) / "manifest.json"
    path.write_bytes(path.read_bytes()[:40])
    assert read_manifest(path.parent) is None


def test_size_content_and_absence_of_a_shard_are_told_apart(tmp_path: Path) -> None:
    shard, folder = commit_step(tmp_path, 5), step_folder(tmp_path, 5)
    assert fault(folder, shard, content=True) is None
    (folder / "a.pt").write_bytes(b"weighty")
    assert fault(folder, shard, content=False) is None
    assert "has changed" in (fault(folder, shard, content=True) or "")
    (folder / "a.pt").write_bytes(b"w")
    assert "1 bytes instead of 7" in (fault(folder, shard, content=False) or "")
    (folder / "a.pt").unlink()
    assert "cannot be read" in (fault(folder, shard, content=False) or "")


def test_no_flipped_character_of_a_manifest_is_believed(tmp_path: Path) -> None:
    commit_step(tmp_path, 5)
    path = step_folder(tmp_path, 5) / "manifest.json"
    text = path.read_bytes()
    good = read_manifest(path.parent)
    for place in range(len(text)):
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        # A blank between two values is not content.
        assert read_manifest(path.parent) in (None, good)
