"""Who a process is, under Slurm and on one machine."""

from __future__ import annotations

import os

import pytest

from launcher.node.ranks import export_for_torch, local_variables, read_ranks, slurm_job_id

SLURM = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_NUM_NODES": "2"}


def test_ranks_come_from_slurms_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "LAUNCHER_ATTEMPT": "3", "LAUNCHER_SUBMISSION": "1"}.items():
        monkeypatch.setenv(name, value)
    ranks = read_ranks()
    assert (ranks.rank, ranks.world_size, ranks.local_rank, ranks.local_world_size) == (5, 8, 1, 4)
    assert ranks.attempt == 3


def test_a_local_job_inside_an_allocation_is_not_mistaken_for_its_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "LAUNCHER_ATTEMPT": "1", "LAUNCHER_SUBMISSION": "1", **local_variables(1, 2)}.items():
        monkeypatch.setenv(name, value)
    ranks = read_ranks()
    assert (ranks.rank, ranks.world_size, ranks.local_rank, ranks.local_world_size) == (1, 2, 1, 2)


def test_torch_gets_the_variables_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "LAUNCHER_ATTEMPT": "1", "LAUNCHER_SUBMISSION": "1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.setenv(name, "unset")
    export_for_torch(read_ranks())
    assert [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")] == list("5814")


@pytest.mark.parametrize("theirs", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", None])
def test_a_users_settings_of_the_allocator_stay(theirs: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
    for name in names:
        monkeypatch.setenv(name, "unset")
    for name in names[-2:]:
        monkeypatch.delenv(name)
    if theirs is not None:
        monkeypatch.setenv(theirs, "max_split_size_mb:128")
    for name, value in {"LAUNCHER_ATTEMPT": "1", "LAUNCHER_SUBMISSION": "1", **local_variables(0, 1)}.items():
        monkeypatch.setenv(name, value)
    export_for_torch(read_ranks())
    expected = "expandable_segments:True" if theirs is None else "max_split_size_mb:128"
    assert {os.environ[name] for name in names[-2:] if name in os.environ} == {expected}


def test_a_task_of_an_array_is_named_as_slurms_commands_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "130")
    assert slurm_job_id() == "130"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "123")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert slurm_job_id() == "123_4"
