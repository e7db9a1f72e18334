"""Answers reach W&B as tables, once each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launcher.publish import append_record
from launcher.rundir import RunDir
from launcher.track.wandb_follower import _send, _send_samples, read_position


class Taken:
    """What a W&B run was given."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []

    def log(self, record: dict[str, Any]) -> None:
        self.logged.append(record)


def test_answers_are_a_table_for_each_step_and_sent_once(tmp_path: Path) -> None:
    run, taken = RunDir(tmp_path), Taken()
    run.wandb.mkdir()
    assert _send_samples(taken, run, read_position(run)) == {"bytes": 0, "samples": 0}
    append_record(run.metrics, {"step": 3, "loss": 1.0, "grad_norm": None})
    for step in (0, 3):
        for prompt in ("a", "b"):
            append_record(run.samples, {"step": step, "prompt": prompt, "answer": f"{prompt}{step}", "attempt": 1})
    position = _send_samples(taken, run, _send(taken, run, read_position(run)))
    assert taken.logged[0] == {"step": 3, "loss": 1.0}
    assert [(record["step"], record["samples"].data) for record in taken.logged[1:]] == [
        (0, [[0, "a", "a0"], [0, "b", "b0"]]),
        (3, [[3, "a", "a3"], [3, "b", "b3"]]),
    ]
    assert read_position(run) == position
    assert _send_samples(taken, run, _send(taken, run, position)) == position
    assert len(taken.logged) == 3


def test_a_position_from_before_there_were_answers_is_understood(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.wandb.mkdir()
    run.wandb_position.write_text('{"bytes": 7}')
    assert read_position(run) == {"bytes": 7, "samples": 0}
