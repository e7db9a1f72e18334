"""The job that tokenises leaves a word in the events, whichever way it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.node.data_job import main
from launcher.publish import read_records
from tests.fakes import planned_run


def test_data_that_cannot_be_used_is_told_and_fails_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_SUBMISSION", "3")
    run = planned_run(tmp_path, "cluster=devslurm", "data.chat_template=null")
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(SystemExit) as ended:
        main(str(run.root))
    assert ended.value.code == 2
    (event,) = [event for event in read_records(run.events) if event["event"] == "data_failed"]
    assert event["submission"] == 3
    assert "train.jsonl does not exist" in event["reason"]


def test_what_becomes_of_data_is_told_to_every_run_that_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_SUBMISSION", "1")
    runs = [planned_run(tmp_path / name, "cluster=devslurm", "data.chat_template=null") for name in "ab"]
    (tmp_path / "a" / "train.jsonl").unlink()
    with pytest.raises(SystemExit):
        # One of them was removed meanwhile.
        main(str(runs[0].root), str(tmp_path / "gone"), str(runs[1].root))
    assert [read_records(run.events)[-1]["event"] for run in runs] == ["data_failed"] * 2
    assert not (tmp_path / "gone").exists()
