"""`launcher ckpt` as typed."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from launcher.checkpoint.manifest import MANIFEST, step_folder
from launcher.cli import reading
from launcher.cli.main import main
from launcher.cli.reading import reading_shown
from launcher.runs.outcome import Ending
from tests.fakes import MadeRun, demo_plan

Out = pytest.CaptureFixture[str]


@pytest.fixture
def made(work: Path) -> MadeRun:
    """A run that ended, with checkpoints of every kind."""
    made = MadeRun(work / "runs", kind="local")
    made.run.plan.write_text(demo_plan())
    made.begin(step=0)
    for step in (2, 4, 6):
        made.steps([step - 1, step])
        if step == 4:
            made.evaluation(4, loss=2.5)
        made.checkpoint(step)
    made.end(Ending.completed)
    return made


def answer(capsys: Out, *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main(["ckpt", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def damage(made: MadeRun, step: int) -> None:
    (step_folder(made.run.checkpoints, step) / "rank-0.pt").write_bytes(b"no")


def test_ls_tells_step_size_ranks_and_the_loss_where_it_is_known(made: MadeRun, capsys: Out) -> None:
    found = answer(capsys, "ls", "last")
    assert [(item["step"], item["standing"], item["eval_loss"]) for item in found] == [
        (2, "committed", None),
        (4, "committed", 2.5),
        (6, "committed", None),
    ]
    facts = {name: found[0][name] for name in ("name", "world_size", "zero_stage", "dtype", "attempt")}
    assert facts == {"name": "step-00000002", "world_size": 2, "zero_stage": 3, "dtype": "bf16", "attempt": 1}
    assert found[0]["size"] > 2 * len("weights of rank 0")


def test_ls_tells_folders_that_are_no_checkpoints_apart(made: MadeRun, capsys: Out) -> None:
    checkpoints = made.run.checkpoints
    (step_folder(checkpoints, 2) / MANIFEST).write_text("{")
    (step_folder(checkpoints, 6) / MANIFEST).rename(step_folder(checkpoints, 6) / f"{MANIFEST}.superseded")
    (step_folder(checkpoints, 8)).mkdir()
    (checkpoints / "universal-00000004").mkdir()
    (checkpoints / "latest").write_text("step-00000006")
    found = answer(capsys, "ls", "last")
    assert [(item["name"], item["standing"]) for item in found] == [
        ("step-00000002", "unreadable"),
        ("step-00000004", "committed"),
        ("universal-00000004", "universal"),
        ("step-00000006", "superseded"),
        ("step-00000008", "incomplete"),
    ]
    assert main(["ckpt", "ls", "last"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:3] == ["STEP", "WRITTEN", "SIZE"]
    assert "2.5000" in table[2]
    assert table[4].endswith("superseded")


def test_a_run_without_checkpoints_lists_none(work: Path, capsys: Out) -> None:
    MadeRun(work / "runs", kind="local")
    assert answer(capsys, "ls", "last") == []
    assert main(["ckpt", "ls", "last"]) == 0


def test_verify_says_good_or_what_is_wrong_and_exits_5(made: MadeRun, capsys: Out) -> None:
    assert main(["ckpt", "verify", "last"]) == 0
    assert capsys.readouterr().out.splitlines() == ["step 2: good", "step 4: good", "step 6: good"]
    damage(made, 4)
    assert main(["ckpt", "verify", "last"]) == 5
    seen = capsys.readouterr()
    assert "step 4: rank-0.pt has 2 bytes instead of 17" in seen.out
    assert "of 3 checkpoints, 1 did not verify: step 4" in seen.err


def test_verify_prints_one_document_also_where_it_fails(made: MadeRun, capsys: Out) -> None:
    damage(made, 4)
    found = answer(capsys, "verify", "last", code=5)
    assert [(item["step"], item["good"]) for item in found] == [(2, True), (4, False), (6, True)]
    assert answer(capsys, "verify", "last", "--step", "6") == [{"step": 6, "good": True, "faults": []}]


def test_a_changed_byte_is_found_though_the_size_is_right(made: MadeRun, capsys: Out) -> None:
    path = step_folder(made.run.checkpoints, 6) / "rank-1.pt"
    path.write_bytes(path.read_bytes()[::-1])
    (found,) = answer(capsys, "verify", "last", "--step", "6", code=5)
    assert found["faults"] == ["the content of rank-1.pt has changed since it was written"]


def test_a_checkpoint_that_is_not_there_exits_3_with_those_that_are(made: MadeRun, capsys: Out) -> None:
    assert main(["ckpt", "verify", "last", "--step", "5"]) == 3
    assert "valid: 2, 4, 6" in capsys.readouterr().err


def test_prune_says_what_it_would_do_and_does_it(made: MadeRun, capsys: Out) -> None:
    assert main(["ckpt", "prune", "last", "--keep-last", "1", "--dry-run"]) == 0
    assert capsys.readouterr().out == "would remove step 2, 4; kept step 6\n"
    found = answer(capsys, "prune", "last", "--keep-last", "1")
    assert found == {"removed": [2, 4], "kept": [6], "bad": {}, "dry_run": False}
    assert [path.name for path in made.run.checkpoints.iterdir()] == ["step-00000006"]


def test_prune_tells_of_a_damaged_newest_one(made: MadeRun, capsys: Out) -> None:
    damage(made, 6)
    assert main(["ckpt", "prune", "last", "--keep-last", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("step 6 is damaged (rank-0.pt has 2 bytes instead of 17)\n")
    assert text.endswith("removed step 2; kept step 4, 6\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "last"], "valid: ls"),
        (["ls", "last", "--step", "3"], "`ckpt verify` does"),
        (["verify", "last", "--dry-run"], "`ckpt prune` does"),
        (["prune", "last", "--keep-last", "0"], "1 or more"),
    ],
)
def test_what_makes_no_sense_is_explained(made: MadeRun, capsys: Out, arguments: list[str], words: str) -> None:
    assert main(["ckpt", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_long_reading_is_told_in_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LINE_EVERY_S", 0.0)
    out = io.StringIO()
    with reading_shown(out, 4_000_000) as report:
        report(1_000_000)
    assert out.getvalue().startswith("verified 1 MB of 4 MB, ")
    assert out.getvalue().endswith(" left\n")


def test_a_bar_counts_what_all_threads_read() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with reading_shown(out, 400) as report:
        threads = [threading.Thread(target=report, args=(100,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "verifying" in out.getvalue()
