"""Whatever is typed or written: a plan or a message. No traceback, no process, no file outside the run directory.

`pytest tests/config/test_fuzz.py --fuzz 10000` takes its time.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from launcher.cli.main import main
from launcher.config.compose import compose
from launcher.config.search import search_path, shipped
from launcher.errors import LauncherError
from launcher.plain import plain
from launcher.plan.build import Request, plan_request
from launcher.runs.freeze import freeze
from tests.config.fuzz import CANARY, documents, overrides, watched

pytestmark = pytest.mark.slow

Out = pytest.CaptureFixture[str]
FEW = 40
"""Examples of each kind where nobody asks for more."""


@pytest.fixture
def examples(pytestconfig: pytest.Config) -> settings:
    asked = pytestconfig.getoption("--fuzz")
    return settings(
        max_examples=FEW if asked is None else asked // 2,
        deadline=None,
        database=None,
        derandomize=asked is None,
        # Making a failure small takes hundreds of plans more.
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


def keys() -> list[str]:
    """Every key of a config, dotted."""
    config = compose("demo", [], search_path(None, Path("/nonexistent"))).config
    assert config is not None

    def leaves(value: object, key: str) -> list[str]:
        if isinstance(value, dict) and value:
            return [leaf for name, item in value.items() for leaf in leaves(item, f"{key}.{name}" if key else name)]
        return [key]

    return leaves(plain(config), "")


def choices() -> list[str]:
    """Every `group=choice`."""
    search = search_path(None, Path("/nonexistent"))
    return [f"{group}={choice}" for group in search.groups() for choice in search.choices(group)]


def planned(words: Sequence[str], work: Path, capsys: Out) -> bool:
    """Whether there is a plan; a command ends as a person can use it, and leaves nothing."""
    with watched(Path("/nowhere")) as watch:
        try:
            code = main(words)
        except SystemExit as error:
            code = int(error.code or 0)
    said = capsys.readouterr()
    assert code in (0, 2, 3), f"exit {code}\n{said.err}"
    assert "Traceback" not in said.err + said.out, said.err
    assert code == 0 or said.err.strip(), "refused without a word"
    assert watch.seen == []
    assert not list(work.rglob(CANARY))
    return code == 0


def frozen_within(recipe: str, words: Sequence[str], work: Path) -> None:
    """Where there is a plan, its run directory is the only thing that freezing it makes."""
    request = Request(recipe=recipe, overrides=[*words, f"runs_root={work / 'runs'}"], config_dir=None, work_dir=work)
    try:
        plan = plan_request(request)
    except LauncherError:
        return
    with watched(work / "runs") as watch:
        freeze(plan, words)
    shutil.rmtree(work / "runs")
    assert watch.seen == []
    assert not list(work.rglob(CANARY))


def test_any_overrides_give_a_plan_or_a_message(demo: Path, work: Path, capsys: Out, examples: settings) -> None:
    @examples
    @given(st.lists(overrides(keys(), choices()), max_size=6), st.sampled_from(["local", "slurm"]))
    def check(words: list[str], cluster: str) -> None:
        if planned(["plan", "demo", f"cluster={cluster}", "--", *words], work, capsys):
            frozen_within("demo", [f"cluster={cluster}", *words], work)

    check()


def test_any_recipe_gives_a_plan_or_a_message(demo: Path, work: Path, capsys: Out, examples: settings) -> None:
    recipes = work / "recipes"
    recipes.mkdir()
    (recipes / "demo.yaml").write_bytes((shipped("recipes") / "demo.yaml").read_bytes())

    @examples
    @given(documents(keys(), choices()))
    def check(document: dict[object, object]) -> None:
        (recipes / "fuzzed.yaml").write_text("# @package _global_\n" + yaml.safe_dump(document, allow_unicode=True))
        if planned(["plan", "fuzzed", "--json"], work, capsys):
            frozen_within("fuzzed", [], work)

    check()
