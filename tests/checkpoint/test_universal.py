"""A conversion reads only what verifies, runs nothing of it, and leaves a whole copy or none."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from launcher.checkpoint.copies import universal_folder
from launcher.checkpoint.manifest import Manifest, fault, read_manifest, step_folder
from launcher.checkpoint.universal import convert_newest
from tests.checkpoint.folders import vouch
from tests.checkpoint.test_export import flip
from tests.workbench import Bench

pytestmark = pytest.mark.train


@pytest.fixture(scope="module", params=[2, 3])
def saved(request: pytest.FixtureRequest, bench: Bench) -> Path:
    """Checkpoints of two ranks after steps 1 and 2."""
    run = bench.train(f"zero.stage={request.param}", "train.max_steps=2", "checkpoint.every_steps=1", "data.eval=null")
    return run / "checkpoints"


@pytest.fixture
def checkpoints(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to change. Its path holds what is special in a pattern; the environment is put back afterwards."""
    for name in ("DS_ACCELERATOR", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("DS_ACCELERATOR")
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    shutil.copytree(saved, tmp_path / "a+b[c]" / "checkpoints")
    return tmp_path / "a+b[c]" / "checkpoints"


def manifest_of(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def names(checkpoints: Path) -> set[str]:
    return {path.name for path in checkpoints.iterdir()}


def test_a_copy_is_whole_synced_and_made_once(checkpoints: Path) -> None:
    (checkpoints / ".universal.killed").mkdir()
    before = names(checkpoints) - {".universal.killed"}
    copy = convert_newest(checkpoints, 1)
    assert copy == universal_folder(checkpoints, 2)
    assert names(checkpoints) == before | {"universal-00000002"}
    manifest = manifest_of(copy)
    assert replace(manifest, shards=[]) == replace(manifest_of(step_folder(checkpoints, 2)), shards=[])
    files = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert {shard.name for shard in manifest.shards} == files - {"manifest.json"}
    assert "zero/model.embed_tokens.weight/exp_avg.pt" in files
    assert all(fault(copy, shard, content=True) is None for shard in manifest.shards)
    assert sorted(shard.rank for shard in manifest.shards) == list(range(len(manifest.shards)))
    inode = copy.stat().st_ino
    assert convert_newest(checkpoints, 4) == copy
    assert copy.stat().st_ino == inode
    assert convert_newest(checkpoints, 2) is None


def test_a_damaged_copy_is_made_again(checkpoints: Path) -> None:
    copy = convert_newest(checkpoints, 1)
    assert copy is not None
    flip(copy / "zero" / "lm_head.weight" / "fp32.pt")
    convert_newest(checkpoints, 1)
    assert all(fault(copy, shard, content=True) is None for shard in manifest_of(copy).shards)


def test_a_damaged_checkpoint_is_never_converted(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = step_folder(checkpoints, 2)
    flip(folder / manifest_of(folder).shards[-1].name)
    assert convert_newest(checkpoints, 1) == universal_folder(checkpoints, 1)
    assert not universal_folder(checkpoints, 2).exists()
    assert "step 2 is not converted" in capsys.readouterr().out


def test_a_checkpoint_that_carries_code_runs_none_when_it_is_converted(checkpoints: Path, tmp_path: Path) -> None:
    folder = step_folder(checkpoints, 2)
    before = names(checkpoints)
    for shard in manifest_of(folder).shards:
        with hostile(folder, shard.name, tmp_path / "ran"), pytest.raises(pickle.UnpicklingError):
            convert_newest(checkpoints, 1)
        assert not (tmp_path / "ran").exists()
    assert names(checkpoints) == before


@contextmanager
def hostile(folder: Path, name: str, proof: Path) -> Iterator[None]:
    """For a while, a file that would create `proof` if it were unpickled, and a manifest that vouches for it."""

    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (proof,))

    path = folder / "manifest.json"
    kept = {file: file.read_bytes() for file in (folder / name, path)}
    torch.save({"payload": Hostile()}, folder / name)
    vouch(folder, name)
    try:
        yield
    finally:
        for file, content in kept.items():
            file.write_bytes(content)
