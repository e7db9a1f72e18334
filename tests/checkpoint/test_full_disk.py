"""Whole runs, broken in the midst of a save: nothing is lost but steps, and no loss comes out different."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.faultpoints import Point
from tests.checkpoint.folders import names
from tests.workbench import Bench, losses

pytestmark = pytest.mark.train

SETTINGS = ["train.max_steps=6", "checkpoint.every_steps=2", "checkpoint.keep_last=2", "data.eval=null"]


@pytest.fixture(scope="module")
def straight(bench: Bench) -> Path:
    return bench.train("train.max_steps=6", "data.eval=null")


def faulty(bench: Bench, folder: Path, point: Point, step: int, rank: int, action: str) -> Bench:
    """A bench whose next run is broken there."""
    folder.mkdir()
    document = {"point": point.value, "step": step, "rank": rank, "action": action}
    (folder / "one.json").write_text(json.dumps(document))
    return replace(bench, environment={**bench.environment, "LAUNCHER_FAULTS": str(folder)})


def events(run: Path, name: str) -> list[dict[str, Any]]:
    return [
        event
        for line in (run / "events.jsonl").read_text().splitlines()
        if (event := json.loads(line))["event"] == name
    ]


def test_a_full_disk_in_the_background_costs_a_checkpoint_and_not_the_run(
    bench: Bench, straight: Path, tmp_path: Path
) -> None:
    broken = faulty(bench, tmp_path / "faults", Point.save_writing, 4, 1, "disk_full")
    run = broken.train(*SETTINGS)
    (failed,) = events(run, "save_failed")
    assert failed["step"] == 4
    assert "rank 1" in failed["reason"]
    assert "No space left" in failed["reason"]
    assert [event["step"] for event in events(run, "checkpoint")] == [2, 6]
    assert [name for name in names(run / "checkpoints") if "step" in name] == ["step-00000002", "step-00000006"]
    assert losses(run) == losses(straight)


def test_a_full_disk_at_the_last_save_ends_the_run_with_what_to_do(bench: Bench, tmp_path: Path) -> None:
    broken = faulty(bench, tmp_path / "faults", Point.save_manifest, 6, 0, "disk_full")
    result = broken.run("submit", *bench.base, *SETTINGS, "--follow", check=False)
    assert result.returncode == 5
    run = bench.last()
    (ended,) = events(run, "attempt_ended")
    assert "checkpoint at step 6" in ended["reason"]
    assert "free space or inodes" in ended["reason"]
    assert [name for name in names(run / "checkpoints") if "step" in name] == ["step-00000002", "step-00000004"]


@pytest.mark.parametrize("setting", [["zero=zero1", "precision=bf16"], ["zero=zero3_offload", "precision=bf16"]])
def test_files_are_the_same_byte_for_byte_written_beside_training_or_not(bench: Bench, setting: list[str]) -> None:
    found = []
    for asynchronous in ("true", "false"):
        run = bench.train(*SETTINGS, *setting, f"checkpoint.asynchronous={asynchronous}")
        files = sorted((run / "checkpoints").glob("step-*/*.pt"))
        found.append({str(file.relative_to(run)): file.read_bytes() for file in files})
    assert found[0] == found[1]
    assert len(found[0]) >= 6
