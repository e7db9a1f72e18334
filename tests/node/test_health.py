"""What makes a node unfit is seen before training, and told in words."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.config.survival import HealthConfig
from launcher.node import health
from launcher.node.fence import superseded
from launcher.rundir import RunDir

FIT = HealthConfig(enabled=True, min_free_memory_gb=0, min_free_disk_gb=0, max_clock_skew_s=60, min_bandwidth_gb_s=None)


def complaints(config: HealthConfig, folder: Path, *, gpus: bool = False) -> list[str]:
    return list(health.complaints(config, folder, gpus=gpus))


def test_a_fit_node_has_nothing_to_say_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert complaints(FIT, tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_want_of_memory_and_disk_is_told_with_the_key_that_asks_for_it(tmp_path: Path) -> None:
    (told,) = complaints(replace(FIT, min_free_memory_gb=1e6), tmp_path)
    assert "of host memory are free (health.min_free_memory_gb=1e+06)" in told
    told = " ".join(complaints(replace(FIT, min_free_disk_gb=1e9), tmp_path))
    assert f"free on the file system of {tmp_path}" in told


def test_a_clock_that_differs_from_the_file_systems_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 300)
    (told,) = complaints(FIT, tmp_path)
    assert "its clock differs by 300 s" in told


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo '0, 0'; echo '3, 2'", "GPU 3 has 2 uncorrectable memory errors"),
        ("echo 'GPU is lost' >&2; exit 15", "nvidia-smi failed: GPU is lost"),
        ("exec sleep 30", "no answer within"),
    ],
)
def test_a_device_that_failed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(health, "DEVICE_TIMEOUT_S", 1)
    (told,) = complaints(FIT, tmp_path, gpus=True)
    assert words in told


def test_an_attempt_is_superseded_once_the_next_one_has_begun(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.attempt(1).root.mkdir(parents=True)
    assert not superseded(run, 1)
    run.attempt(2).root.mkdir()
    assert superseded(run, 1)
