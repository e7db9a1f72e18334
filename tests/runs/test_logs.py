from __future__ import annotations

import io
from pathlib import Path

import pytest

from launcher.errors import NotFoundError
from launcher.runs.logs import find_log, follow_log
from tests.fakes import MadeRun


@pytest.fixture
def made(tmp_path: Path) -> MadeRun:
    return MadeRun(tmp_path)


def test_rank_0_of_the_latest_attempt_is_what_one_wants_to_read(made: MadeRun) -> None:
    for _ in range(2):
        folder = made.run.attempt(made.begin())
        folder.launch_log.write_text("launch")
        for rank in range(2):
            folder.rank_log(rank).write_text("rank")
    assert find_log(made.run, None, None) == made.run.attempt(2).rank_log(0)
    assert find_log(made.run, 1, None) == made.run.attempt(2).rank_log(1)
    assert find_log(made.run, 1, 1) == made.run.attempt(1).rank_log(1)


def test_before_the_ranks_start_there_is_the_launch_log(made: MadeRun) -> None:
    folder = made.run.attempt(made.begin())
    folder.launch_log.write_text("preparing")
    assert find_log(made.run, None, None) == folder.launch_log


def test_before_any_attempt_there_is_what_the_executor_wrote(made: MadeRun) -> None:
    folder = made.run.submissions / "0001"
    (folder / "submission.sh").write_text("#!/bin/bash")
    (folder / "empty_log.out").write_text("")
    (folder / "42_0_log.out").write_text("slurmstepd: error")
    assert find_log(made.run, None, None) == folder / "42_0_log.out"


def test_a_rank_that_has_no_log_is_answered_with_those_that_have(made: MadeRun) -> None:
    made.run.attempt(made.begin()).rank_log(0).write_text("rank")
    with pytest.raises(NotFoundError, match=r"rank-00000\.log"):
        find_log(made.run, 7, None)


def test_an_attempt_that_never_was_is_answered_with_those_that_were(made: MadeRun) -> None:
    made.begin()
    with pytest.raises(NotFoundError, match="valid: 1"):
        find_log(made.run, None, 3)


def test_a_run_that_has_written_nothing_says_so(made: MadeRun) -> None:
    with pytest.raises(NotFoundError, match="nothing was written yet"):
        find_log(made.run, None, None)


def test_following_changes_over_to_the_newer_log_and_misses_nothing(made: MadeRun) -> None:
    out, said = io.BytesIO(), []
    moments = iter(range(10))

    def ended() -> bool:
        moment = next(moments)
        if moment == 1:
            made.run.attempt(made.begin()).launch_log.write_text("launch\n")
        if moment == 2:
            with made.run.attempt(1).launch_log.open("a") as file:
                file.write("more\n")
            made.run.attempt(1).rank_log(0).write_text("rank\n")
        if moment == 3:
            with made.run.attempt(1).rank_log(0).open("a") as file:
                file.write("last word\n")
        return moment == 3

    follow_log(lambda: find_log(made.run, None, None), ended, out, said.append)
    assert out.getvalue() == b"launch\nmore\nrank\nlast word\n"
    assert len(said) == 2
