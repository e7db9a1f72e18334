"""What the node asks of Slurm, and what it makes of the answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.slurm_commands import ends_at, requeue, usable_nodes
from tests.fakes import FakeSlurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path)
    monkeypatch.setenv("PATH", str(fake.bin), prepend=":")
    return fake


def test_a_job_goes_back_once_and_without_the_bad_nodes(slurm: FakeSlurm) -> None:
    slurm.scontrol("JobId=5 Restarts=0 JobState=RUNNING")
    assert requeue("5", 0, ["n2", "n7"]) is None
    assert slurm.calls("scontrol") == ["show job 5", "requeue 5", "update JobId=5 ExcNodeList=n2,n7"]


@pytest.mark.parametrize("shown", ["JobId=5 Restarts=1 JobState=RUNNING", "JobId=5 Restarts=1 JobState=PENDING"])
def test_a_job_that_slurm_has_put_back_already_is_left_alone(slurm: FakeSlurm, shown: str) -> None:
    slurm.scontrol(shown)
    assert requeue("5", 0, []) is None
    assert "requeue 5" not in slurm.calls("scontrol")


def test_a_controller_that_is_away_is_waited_for(slurm: FakeSlurm) -> None:
    slurm.refuse("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            slurm.accept()
            slurm.scontrol("JobId=5 Restarts=0 JobState=RUNNING")

    assert requeue("5", 0, [], sleep=sleep) is None
    assert len(slept) == 3


def test_a_refusal_is_told_in_slurms_words(slurm: FakeSlurm) -> None:
    slurm.scontrol("JobId=5 Restarts=0 JobState=RUNNING", refusing="Requested operation is presently disabled for job")
    assert requeue("5", 0, []) == "Requested operation is presently disabled for job"


def test_the_end_of_a_job_without_a_limit_is_not_known(slurm: FakeSlurm) -> None:
    slurm.scontrol("JobId=5 EndTime=Unknown")
    assert ends_at("5") is None
    slurm.scontrol("JobId=5 EndTime=2026-11-21T12:00:00")
    assert ends_at("5") is not None


def test_nodes_out_of_service_do_not_count(slurm: FakeSlurm) -> None:
    slurm.nodes("n1", "n2", down=("n3",))
    assert usable_nodes(None) == {"n1", "n2"}
