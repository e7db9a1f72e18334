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
