"""What every shipped recipe turns into, in full. A change here is a change for whoever runs the recipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cluster.slurm import script
from launcher.config.compose import compose
from launcher.config.search import search_path, shipped
from launcher.plan.build import plan_config
from launcher.plan.memory import fits
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

RECIPES = sorted(file.stem for file in shipped("recipes").glob("*.yaml"))
SLURM = {"demo": ["cluster=devslurm"]}
"""Recipes that need another cluster to have a batch script."""


def planned(recipe: str, work: Path, *overrides: str) -> RunPlan:
    composed = compose(recipe, overrides, search_path(None, work))
    return plan_config(composed.config, composed.problems, recipe=recipe, run_id="RUN", work_dir=work)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_deepspeed_config_is_as_it_was(
    recipe: str, demo: Path, work: Path, golden: Callable[[str, str], None]
) -> None:
    golden(f"{recipe}.deepspeed.json", json.dumps(planned(recipe, work).deepspeed, indent=2) + "\n")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_batch_script_is_as_it_was(recipe: str, demo: Path, work: Path, golden: Callable[[str, str], None]) -> None:
    plan = planned(recipe, work, *SLURM.get(recipe, []))
    text = script(plan, RunDir(Path(plan.run_dir)).submissions / "0001")
    places = {sys.executable: "/PYTHON", str(work / "runs"): "/RUNS"}
    for place, name in places.items():
        text = text.replace(place, name)
    golden(f"{recipe}.sbatch", text + "\n")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_shipped_recipe_fits_and_its_header_tells_the_memory_that_the_plan_tells(
    recipe: str, demo: Path, work: Path
) -> None:
    plan = planned(recipe, work)
    assert fits(plan.memory)
    header = (shipped("recipes") / f"{recipe}.yaml").read_text()
    if recipe != "demo":
        told = f"{plan.memory.total_gb:.0f} of {plan.memory.available_gb:g} GiB per GPU at micro batch"
        assert f"# Memory     {told} {plan.batch.micro_batch_size} " in header
