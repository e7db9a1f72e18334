"""A run's files become curves, answers, slices, and a word on overfitting."""

from __future__ import annotations

from pathlib import Path

from launcher.publish import append_record
from launcher.rundir import RunDir
from launcher.track.curves import read_curves, turns


def write(run: RunDir, losses: list[float], held_out: dict[int, float]) -> None:
    for step in range(len(losses) + 1):
        if step:
            append_record(run.metrics, {"step": step, "loss": losses[step - 1], "tokens": 10 * step, "attempt": 1})
        if step in held_out:
            append_record(run.metrics, {"step": step, "slices": {"eval": {"at": step}}, "attempt": 1})
            append_record(run.metrics, {"step": step, "eval_loss": held_out[step], "grad_norm": None, "attempt": 1})


def test_files_become_curves(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert read_curves(run).lines == {}
    write(run, [3.0, 2.5, 2.0], {0: 4.0, 1: 3.5, 3: 3.0})
    for step in range(20):
        append_record(run.samples, {"step": step, "prompt": "a?", "answer": f"first {step}", "attempt": 1})
    append_record(run.samples, {"step": 19, "prompt": "a?", "answer": "again", "attempt": 2})
    with run.metrics.open("a") as file:
        file.write('{"step": 4, "lo')
    found = read_curves(run)
    assert found.lines == {"loss": [(1, 3.0), (2, 2.5), (3, 2.0)], "eval_loss": [(0, 4.0), (1, 3.5), (3, 3.0)]}
    assert found.slices == {0: {"eval": {"at": 0}}, 3: {"eval": {"at": 3}}}
    assert (found.steps, found.tokens) == (3, 30)
    answers = found.answers["a?"]
    assert len(answers) == 6
    assert (answers[0], answers[19]) == ("first 0", "again")


def test_a_held_out_loss_that_rises_while_the_training_loss_falls_has_turned(tmp_path: Path) -> None:
    falling = [4.0 - step / 50 for step in range(100)]
    for name, held_out, expected in (
        ("turned", {0: 4.0, 40: 3.0, 70: 3.2, 100: 3.5}, [("eval_loss", 40)]),
        ("still", {0: 4.0, 40: 3.0, 70: 2.8, 100: 2.7}, []),
    ):
        run = RunDir(tmp_path / name)
        run.root.mkdir()
        write(run, falling, held_out)
        assert [(turn.name, turn.step) for turn in turns(read_curves(run))] == expected
    run = RunDir(tmp_path / "both")
    run.root.mkdir()
    write(run, falling[::-1], {0: 4.0, 40: 3.0, 100: 3.5})
    assert turns(read_curves(run)) == []
