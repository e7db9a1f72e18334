"""A fault strikes once, at its own point, rank and step."""

import json
from pathlib import Path

import pytest

from launcher.faultpoints import VARIABLE, Point, reach


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "0.json").write_text(json.dumps({"point": "step", "step": 5, "rank": 1, "action": "poison"}))
    return tmp_path


def test_a_fault_strikes_at_its_step_and_never_again(folder: Path) -> None:
    assert reach(Point.step, rank=1, step=4) is None
    assert reach(Point.step, rank=0, step=5) is None
    assert reach(Point.loss, rank=1, step=5) is None
    assert reach(Point.step, rank=1, step=5) == "poison"
    assert reach(Point.step, rank=1, step=6) is None


def test_a_fault_whose_step_was_passed_by_strikes_at_the_next(folder: Path) -> None:
    assert reach(Point.step, rank=1) is None
    assert reach(Point.step, rank=1, step=7) == "poison"
