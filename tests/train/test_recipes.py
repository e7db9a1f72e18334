"""Every shipped recipe trains: its twin, which differs in model, sizes, precision and cluster only, takes two steps."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.config.search import shipped
from launcher.runplan import RunPlan
from launcher.runs.outcome import Ending, rank_words
from tests.train.twins import STEPS, TWINS, run_of
from tests.workbench import losses, records

pytestmark = pytest.mark.train

RECIPES = sorted(file.stem for file in shipped("recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all twins have trained."""
    folder = tmp_path_factory.mktemp("twins")
    subprocess.run([sys.executable, "-m", "tests.train.twins", folder], check=True, timeout=600)
    return folder


def test_every_recipe_has_a_twin() -> None:
    assert sorted(TWINS) == RECIPES, "a recipe needs an entry in tests/train/twins.py"


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe in TWINS])
def test_the_twin_of_a_recipe_trains_to_its_end(folder: Path, recipe: str) -> None:
    said = (folder / f"{recipe}.log").read_text()
    assert list((folder / "runs").glob(f"{recipe}-2*")), said
    run = run_of(recipe, folder)
    words, log = rank_words(run.attempt(1)), run.attempt(1).rank_log(0)
    assert words, f"{said}\n{log.read_text() if log.exists() else ''}"
    (word,) = words
    assert (word.state, word.step) == (Ending.completed, STEPS), log.read_text()
    trained = losses(run.root)
    assert list(trained) == list(range(1, STEPS + 1))
    assert all(math.isfinite(loss) for loss in trained.values())
    told = {record["step"]: record for record in records(run.root) if "eval_loss" in record}
    assert list(told) == [0, STEPS]
    best_by = RunPlan.load(run.plan).config.checkpoint.best_by
    assert all(math.isfinite(record[name]) for record in told.values() for name in ("eval_loss", best_by))
