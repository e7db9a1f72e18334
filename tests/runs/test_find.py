from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.errors import NotFoundError, UserError
from launcher.runs.find import all_runs, find
from tests.fakes import MadeRun


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for age, name in enumerate(["demo-1", "demo-12", "other-3"]):
        plan = MadeRun(tmp_path, name).run.plan
        os.utime(plan, (1000 + age, 1000 + age))
    (tmp_path / ".data").mkdir()
    return tmp_path


@pytest.mark.parametrize(("typed", "name"), [("demo-1", "demo-1"), ("demo-12", "demo-12"), ("o", "other-3")])
def test_an_id_or_a_prefix_that_only_one_run_has_finds_it(root: Path, typed: str, name: str) -> None:
    assert find(typed, root).root.name == name


def test_last_is_the_run_that_was_planned_last(root: Path) -> None:
    assert find("last", root).root.name == "other-3"
    os.utime(root / "demo-1/plan.json", (2000, 2000))
    assert find("last", root).root.name == "demo-1"


def test_a_path_is_taken_as_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "demo-12")
    assert find(str(root / "demo-1"), Path("/nowhere")).root == root / "demo-1"
    assert find(".", Path("/nowhere")).root == root / "demo-12"


def test_a_prefix_of_several_runs_lists_them(root: Path) -> None:
    with pytest.raises(UserError, match="demo-1, demo-12"):
        find("demo", root)


def test_an_unknown_run_is_answered_with_the_nearest(root: Path) -> None:
    with pytest.raises(NotFoundError, match="valid: other-3"):
        find("othr-3", root)


def test_there_is_no_last_run_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there are no runs"):
        find("last", tmp_path)


def test_a_path_without_a_plan_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"plan\.json"):
        find(f"{tmp_path}/", tmp_path)


def test_folders_without_a_plan_are_no_runs(root: Path) -> None:
    assert [run.root.name for run in all_runs(root)] == ["demo-1", "demo-12", "other-3"]
