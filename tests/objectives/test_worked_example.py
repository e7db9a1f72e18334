"""The objective that docs/objectives.md shows is one file, found by its name, and computes what it says."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from launcher import objectives
from launcher.objectives import registry
from tests.objectives.test_formulas import ROWS, batch_of, logps_by_hand, random_model

PAGE = Path(__file__).parents[2] / "docs" / "objectives.md"


@pytest.fixture
def focal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The file of the page, where objectives are looked for."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "focal.py").write_text(source)
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(tmp_path)])
    yield "focal"
    sys.modules.pop("launcher.objectives.focal", None)


def test_the_page_lists_every_objective() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(listed) == registry.names()


def test_a_new_objective_is_one_file(focal: str) -> None:
    assert focal in registry.names()
    batch = batch_of(ROWS)
    model = random_model(batch)
    found = registry.load(focal, {"gamma": 1.5}).score(model, batch).loss_sum
    logps = torch.tensor([logp for row in logps_by_hand(model, batch) for logp in row], dtype=torch.float64)
    assert found.item() == pytest.approx(-((1 - logps.exp()) ** 1.5 * logps).sum().item(), rel=1e-6)


def test_its_options_are_checked_like_any_other(focal: str) -> None:
    problems: list[object] = []
    assert registry.checked(focal, {"gamma": -1}, problems) is None  # type: ignore[arg-type]
    assert "objective.options.gamma" in str(problems[0])
