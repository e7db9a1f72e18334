"""rollouts.jsonl: what a run that goes on from an earlier step does with what came after it."""

from __future__ import annotations

from pathlib import Path

from launcher.publish import read_records
from launcher.train.shown import MOST_CHARS, Shown


def test_what_came_after_the_step_to_go_on_from_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "rollouts.jsonl"
    shown = Shown(file)
    shown.add([{"step": step, "answer": "x"} for step in (1, 1, 2, 3)])
    with file.open("a") as half:
        half.write('{"step": 4, "ans')
    shown.forget_after(2)
    shown.add([{"step": 3, "answer": "y"}])
    assert [(record["step"], record["answer"]) for record in read_records(file)] == [
        (1, "x"),
        (1, "x"),
        (2, "x"),
        (3, "y"),
    ]


def test_long_texts_are_cut_and_other_ranks_write_nothing(tmp_path: Path) -> None:
    file = tmp_path / "rollouts.jsonl"
    Shown(file).add([{"step": 1, "answer": "x" * 10_000}])
    assert len(read_records(file)[0]["answer"]) == MOST_CHARS + 1
    silent = Shown(None)
    silent.add([{"step": 1}])
    silent.forget_after(0)
    assert len(read_records(file)) == 1
