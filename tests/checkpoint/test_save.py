"""What training sees of a save: how long it waits, and that all ranks hear the same of how it went."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from launcher.checkpoint import completion
from launcher.checkpoint.engine import HashingCheckpointEngine
from launcher.checkpoint.manifest import committed_steps
from launcher.checkpoint.retain import Policy
from launcher.checkpoint.save import Position, Saver
from launcher.errors import StorageError
from launcher.rundir import RunDir
from tests.checkpoint.folders import draft, is_good, make_run, names

pytestmark = pytest.mark.train


class Engine:
    """Saves one tensor a rank the way DeepSpeed does."""

    def __init__(self, size: int = 1000) -> None:
        self.weights = torch.zeros(size)
        self.checkpoint_engine: Any = None

    def _copy_recovery_script(self, path: str) -> None:
        (Path(path) / "zero_to_fp32.py").write_text("")

    def save_checkpoint(self, save_dir: str, tag: str, save_latest: bool) -> None:
        assert not save_latest
        dist.barrier()
        self.checkpoint_engine.makedirs(f"{save_dir}/{tag}", exist_ok=True)
        self.checkpoint_engine.save({"module": {"w": self.weights}}, f"{save_dir}/{tag}/{dist.get_rank()}.pt")
        self._copy_recovery_script(save_dir)
        dist.barrier()


def position(step: int) -> Position:
    return Position(step=step, total_steps=99, tokens=step)


def make_saver(run: RunDir, engine: Engine, *, asynchronous: bool = True, last: int | None = None) -> Saver:
    manifest = draft(0, world_size=dist.get_world_size())
    return Saver(engine, run, draft=manifest, policy=Policy(last=last), asynchronous=asynchronous)


@pytest.fixture(scope="module", autouse=True)
def one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writing waits for it."""
    opened, take = threading.Event(), HashingCheckpointEngine.take

    def wait(self: HashingCheckpointEngine) -> Any:
        assert opened.wait(20)
        return take(self)

    monkeypatch.setattr(HashingCheckpointEngine, "take", wait)
    yield opened
    opened.set()


def weights(run: RunDir, step: int) -> float:
    path = run.checkpoints / f"step-{step:08d}" / "0.pt"
    return float(torch.load(path, weights_only=True)["module"]["w"][0])


def test_training_goes_on_while_the_state_at_the_save_is_written(tmp_path: Path, gate: threading.Event) -> None:
    run, engine = make_run(tmp_path), Engine()
    saver = make_saver(run, engine)
    saver.save_all(position(5), wait=False)
    assert committed_steps(run.checkpoints) == []
    engine.weights += 1
    gate.set()
    assert saver.finish_all() is None
    assert committed_steps(run.checkpoints) == [5]
    assert weights(run, 5) == 0
    event = json.loads(run.events.read_text())
    assert event["stalled_s"] <= event["seconds"]


def test_a_save_finishes_the_one_before(tmp_path: Path) -> None:
    run, engine = make_run(tmp_path), Engine()
    saver = make_saver(run, engine, last=2)
    for step in (5, 10, 15):
        saver.save_all(position(step), wait=step == 15)
        engine.weights += 1
    assert committed_steps(run.checkpoints) == [10, 15]
    assert [weights(run, step) for step in (10, 15)] == [1, 2]
    assert names(run.checkpoints) == ["latest", "step-00000010", "step-00000015", "zero_to_fp32.py"]


def anonymous_bytes() -> int:
    """Of this process's memory."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon:"))
    return 1024 * int(line.split()[1])


def test_what_a_step_has_freed_does_not_lie_beside_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(Engine, "save_checkpoint", lambda *_, **__: seen.append(anonymous_bytes()))
    saver = make_saver(make_run(tmp_path), Engine())
    # Too small to be memory of its own, and under a piece that stays.
    pieces = [torch.ones(1 << 14) for _ in range(2000)]
    stays = torch.ones(1 << 14)
    full = anonymous_bytes()
    del pieces
    saver.save_all(position(5), wait=False)
    assert stays.all()
    assert full - seen[0] > 0.8 * 2000 * 4 * (1 << 14)


@pytest.mark.parametrize(("asynchronous", "wait"), [(True, True), (False, False)])
def test_a_save_that_is_waited_for_is_there_on_return(tmp_path: Path, asynchronous: bool, wait: bool) -> None:
    run = make_run(tmp_path)
    make_saver(run, Engine(), asynchronous=asynchronous).save_all(position(5), wait=wait)
    assert is_good(run.checkpoints, 5)
    event = json.loads(run.events.read_text())
    assert event["stalled_s"] == event["seconds"]


def test_closing_waits_for_the_commit_but_not_for_ever(tmp_path: Path, gate: threading.Event) -> None:
    run = make_run(tmp_path)
    saver = make_saver(run, Engine())
    saver.close(1)
    saver.save_all(position(5), wait=False)
    saver.close(0.05)
    assert committed_steps(run.checkpoints) == []
    gate.set()
    saver.close(20)
    assert committed_steps(run.checkpoints) == [5]


def test_a_later_attempt_is_told_of_not_raised_unless_waited_for(tmp_path: Path) -> None:
    run = make_run(tmp_path, attempts=2)
    saver = make_saver(run, Engine())
    saver.save_all(position(5), wait=False)
    reason = saver.finish_all()
    assert reason == "attempt 2 has begun; attempt 1 is no longer the run"
    with pytest.raises(StorageError, match="attempt 2 has begun"):
        saver.save_all(position(6), wait=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_full_disk_costs_one_save_and_no_more(
    small_disk: Path, capsys: pytest.CaptureFixture[str], asynchronous: bool
) -> None:
    run, engine = make_run(small_disk / "run"), Engine(size=100_000)
    saver = make_saver(run, engine, asynchronous=asynchronous, last=1)
    saver.save_all(position(5), wait=True)
    filler = run.root / "filler"
    # 3.3 MB are left, and 0.3 MB once the filler is there, of which the checkpoint wants 0.4.
    filler.write_bytes(bytes(os.statvfs(run.root).f_bavail * os.statvfs(run.root).f_bsize - 300_000))
    if asynchronous:
        saver.save_all(position(10), wait=False)
        assert "No space left on device" in (saver.finish_all() or "")
    with pytest.raises(StorageError, match="No space left on device"):
        saver.save_all(position(10), wait=True)
    assert is_good(run.checkpoints, 5)
    assert names(run.checkpoints) == ["latest", "step-00000005", "zero_to_fp32.py"]
    filler.unlink()
    saver.save_all(position(15), wait=True)
    assert committed_steps(run.checkpoints) == [15]
    told = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert [event["step"] for event in told if event["event"] == "save_failed"] == [10] * (1 + asynchronous)
    assert f"free space or inodes under {run.checkpoints}" in capsys.readouterr().out


def test_a_disk_without_a_byte_left_loses_no_event(small_disk: Path) -> None:
    run, engine = make_run(small_disk / "run"), Engine()
    saver = make_saver(run, engine)
    saver.save_all(position(5), wait=True)
    filler = run.root / "filler"
    with filler.open("wb", buffering=0) as file:
        # A write into the last bytes is cut short, and only the next one is refused.
        while file.write(bytes(4096)) == 4096 and os.statvfs(run.root).f_bavail:
            pass
    (run.root / "events.jsonl").rename(run.root / "before.jsonl")
    saver.save_all(position(10), wait=False)
    assert saver.finish_all() is not None
    filler.unlink()
    saver.save_all(position(15), wait=True)
    told = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert [(event["event"], event["step"]) for event in told] == [("save_failed", 10), ("checkpoint", 15)]


def test_two_ranks_hear_the_same_when_one_cannot_write(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    faults = tmp_path / "faults"
    faults.mkdir()
    for number, step in enumerate((10, 20)):
        document = {"point": "save.writing", "step": step, "rank": 1, "action": "disk_full"}
        (faults / f"{number}.json").write_text(json.dumps(document))
    store = f"file://{tmp_path / 'store'}"
    command = [sys.executable, "-m", "tests.checkpoint.test_save", str(run.root), store]
    environment = {**os.environ, "LAUNCHER_FAULTS": str(faults)}
    ranks = [
        subprocess.Popen([*command, str(rank)], env=environment, stdout=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    told = [json.loads(rank.communicate(timeout=100)[0].splitlines()[-1]) for rank in ranks]
    assert told[0] == told[1]
    assert "rank 1" in told[0]["background"]
    assert "rank 1" in told[0]["waited for"]
    assert committed_steps(run.checkpoints) == [30]


def two_ranks(root: str, store: str, rank: str) -> None:
    """One of them: a save at 10 fails in the background, one at 20 while it is waited for, one at 30 not."""
    dist.init_process_group("gloo", init_method=store, rank=int(rank), world_size=2)
    completion.LISTS_TIMEOUT_S = 20
    saver = make_saver(RunDir(Path(root)), Engine())
    saver.save_all(position(10), wait=False)
    told = {"background": saver.finish_all(), "waited for": "nothing was raised"}
    try:
        saver.save_all(position(20), wait=True)
    except StorageError as error:
        told["waited for"] = str(error)
    saver.save_all(position(30), wait=True)
    print(json.dumps(told), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    two_ranks(*sys.argv[1:])
