"""What is written is plain data, hashed as it stands on disk; what cannot be written is told, not raised."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
import torch
from deepspeed.runtime.zero.config import ZeroStageEnum

from launcher.checkpoint.engine import HashingCheckpointEngine
from launcher.checkpoint.snapshot import HostBuffers
from launcher.digest import file_sha256

pytestmark = pytest.mark.train


def test_shards_are_hashed_as_they_are_written(tmp_path: Path) -> None:
    engine = HashingCheckpointEngine(rank=3)
    engine.save({"weights": torch.arange(1000.0)}, str(tmp_path / "a.pt"))
    (shard,), error = engine.take()
    assert error is None
    assert (shard.name, shard.rank, shard.size) == ("a.pt", 3, (tmp_path / "a.pt").stat().st_size)
    assert shard.sha256 == file_sha256(tmp_path / "a.pt")
    assert torch.equal(engine.load(str(tmp_path / "a.pt"))["weights"], torch.arange(1000.0))
    assert engine.take() == ([], None)


def test_an_enum_is_written_as_its_value_which_needs_no_allowance_to_load(tmp_path: Path) -> None:
    state = {"optimizer_state_dict": {"zero_stage": ZeroStageEnum.weights, "groups": [torch.ones(2)]}}
    engine = HashingCheckpointEngine(rank=0)
    engine.save(state, str(tmp_path / "a.pt"))
    loaded = torch.load(tmp_path / "a.pt", weights_only=True)
    assert type(loaded["optimizer_state_dict"]["zero_stage"]) is int
    assert loaded["optimizer_state_dict"]["zero_stage"] == 3
    assert state["optimizer_state_dict"]["zero_stage"] is ZeroStageEnum.weights


def test_the_stage_is_named_where_deepspeed_forgets_to(tmp_path: Path) -> None:
    engine = HashingCheckpointEngine(rank=0)
    engine.save({"optimizer_state_dict": {"single_partition_of_fp32_groups": []}}, str(tmp_path / "a.pt"))
    assert engine.load(str(tmp_path / "a.pt"))["optimizer_state_dict"]["zero_stage"] == 1


def test_a_write_that_fails_is_told_and_ends_the_writing(tmp_path: Path) -> None:
    engine = HashingCheckpointEngine(rank=0)
    for name in ("a.pt", "missing/b.pt", "c.pt"):
        engine.save({}, str(tmp_path / name))
    shards, error = engine.take()
    assert shards == []
    assert error is not None
    assert "missing/b.pt" in error
    # Whoever tells of a full disk needs room for the word.
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_written_by_take_and_its_bytes_are_those_of_a_direct_write(tmp_path: Path) -> None:
    engine = HashingCheckpointEngine(rank=0)
    weights = torch.arange(1000.0)
    for folder in ("direct", "copied"):
        (tmp_path / folder).mkdir()
        engine.begin(5, copying=folder == "copied")
        engine.save({"module": {"a": weights, "b": weights[3:]}}, str(tmp_path / folder / "a.pt"))
        assert (tmp_path / folder / "a.pt").exists() == (folder == "direct")
        if folder == "copied":
            weights.zero_()
        (shard,), error = engine.take()
        assert error is None
        assert shard.sha256 == file_sha256(tmp_path / folder / "a.pt")
    assert (tmp_path / "direct" / "a.pt").read_bytes() == (tmp_path / "copied" / "a.pt").read_bytes()


def test_without_memory_for_a_copy_the_file_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: HostBuffers, size: int, *, pinned: bool) -> NoReturn:
        raise MemoryError(size)

    monkeypatch.setattr(HostBuffers, "take", refuse)
    engine = HashingCheckpointEngine(rank=0)
    engine.begin(5, copying=True)
    engine.save({"a": torch.ones(10)}, str(tmp_path / "a.pt"))
    assert torch.equal(engine.load(str(tmp_path / "a.pt"))["a"], torch.ones(10))
    shards, error = engine.take()
    assert (len(shards), error) == (1, None)


def test_a_save_that_is_waited_for_leaves_the_memory_for_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocated: list[int] = []

    def allocate(size: int, *, pinned: bool) -> torch.UntypedStorage:
        allocated.append(size)
        return torch.UntypedStorage(size)

    monkeypatch.setattr("launcher.checkpoint.snapshot._allocate", allocate)
    engine = HashingCheckpointEngine(rank=0)
    for step, copying in enumerate([True, False, True]):
        engine.begin(step, copying=copying)
        engine.save({"a": torch.ones(10)}, str(tmp_path / f"{step}.pt"))
        engine.take()
    assert allocated == [40]


def test_an_error_outside_the_files_ends_the_save_too(tmp_path: Path) -> None:
    engine = HashingCheckpointEngine(rank=0)
    engine.begin(5, copying=True)
    engine.makedirs("/proc/nothing/can/be/made/here", exist_ok=True)
    engine.save({}, str(tmp_path / "a.pt"))
    shards, error = engine.take()
    assert shards == []
    assert "/proc/nothing" in (error or "")
    engine.begin(6, copying=True)
    assert engine.take() == ([], None)
