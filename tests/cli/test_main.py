from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cli import main as main_module
from launcher.cli.main import VERBS, main

Out = pytest.CaptureFixture[str]


def test_help_tells_every_verb(capsys: Out) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {verb}" in text for verb in VERBS)


def test_the_verbs_are_those_of_the_contract() -> None:
    verbs = "plan submit ls status why logs cancel resume data ckpt report sync diff export doctor eval"
    assert list(VERBS) == verbs.split()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: Out) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert VERBS[verb].split(";")[0] in capsys.readouterr().out


def test_a_mistyped_verb_is_answered_with_the_nearest(capsys: Out) -> None:
    assert main(["stauts", "last"]) == 2
    assert "valid: status, " in capsys.readouterr().err


def test_nothing_typed_is_answered_with_help(capsys: Out) -> None:
    assert main([]) == 2
    assert "verbs:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["plan"], ["status", "a", "b"], ["ls", "--jsn"], ["plan", "demo", "--json", "--cfg"]]
)
def test_arguments_that_make_no_sense_exit_2(arguments: list[str], capsys: Out) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: launcher" in capsys.readouterr().err


def test_an_error_is_a_message_without_a_traceback(work: Path, capsys: Out) -> None:
    assert main(["status", "none"]) == 3
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "there is no such run" in seen.err
    assert "Traceback" not in seen.err


def test_debug_shows_where_an_error_came_from(work: Path, capsys: Out) -> None:
    assert main(["status", "none", "--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_with_json_an_error_is_a_document_too(work: Path, capsys: Out) -> None:
    assert main(["status", "none", "--json"]) == 3
    (problem,) = json.loads(capsys.readouterr().out)["error"]
    assert problem["where"] == "run 'none'"
    assert set(problem) == {"where", "message", "valid", "remedy"}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, work: Path) -> None:
    def fail(options: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("launcher.cli.ls.run", fail)


@pytest.mark.usefixtures("broken")
def test_our_own_bug_is_called_one_in_one_line(capsys: Out) -> None:
    assert main(["ls"]) == 1
    assert capsys.readouterr().err == "this is a bug in launcher: KeyError: 'x'; run again with --debug\n"


@pytest.mark.usefixtures("broken")
def test_our_own_bug_has_a_traceback_with_debug(capsys: Out) -> None:
    assert main(["--debug", "ls", "--json"]) == 1
    seen = capsys.readouterr()
    assert "Traceback" in seen.err
    assert "bug in launcher" in json.loads(seen.out)["error"][0]["message"]


def test_an_interrupt_exits_130(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("launcher.cli.ls.run", interrupt)
    assert main(["ls"]) == main_module.INTERRUPTED == 130


def test_what_is_written_is_private(work: Path) -> None:
    os.umask(0o022)
    main(["ls"])
    (work / "file").write_text("")
    assert (work / "file").stat().st_mode & 0o077 == 0


def test_a_reader_that_has_seen_enough_is_no_error(work: Path) -> None:
    script = f"{sys.executable} -m launcher.cli.main --help | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr
