"""Two hundred hostile strings go through a real sbatch and arrive as they were written; none of them is run."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from tests.config.fuzz import CANARY, HOSTILE
from tests.workbench import Bench

pytestmark = [pytest.mark.slurm, pytest.mark.train]

COUNT = 200
FOLDER = f"runs $(touch {CANARY}) `touch {CANARY}` '\" ; touch {CANARY} & #"
"""Where the run directory lies: what hostile text there is that a file name can be."""


def hostile() -> list[str]:
    """Different texts, none of them empty, that JSON, YAML and an environment can hold."""
    sound = [text for text in HOSTILE if text.strip() and "\x00" not in text and "\ud800" not in text]
    pairs = (f"{first}{second}" for first, second in itertools.product(sound, sound) if len(first + second) < 200)
    return list(itertools.islice(dict.fromkeys([*[text for text in sound if len(text) < 200], *pairs]), COUNT))


def literal(text: str) -> str:
    """The text for OmegaConf, which would look up what stands in ${…}."""
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", text)


def typed(text: str) -> str:
    """The text for Hydra's command line."""
    quoted = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", literal(text))
    return "'" + re.sub(r"\\+$", lambda found: found[0] * 2, quoted) + "'"


def rank_environments(run: Path) -> list[dict[str, str]]:
    """The variables of every process that works in the run directory's snapshot."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            entries = (folder / "environ").read_bytes().decode(errors="surrogateescape").split("\0")
        except (OSError, ValueError):
            continue
        values = dict(entry.partition("=")[::2] for entry in entries if "=" in entry)
        if values.get("SLURM_PROCID") is not None and str(run) in values.get("PYTHONPATH", ""):
            found.append(values)
    return found


def test_hostile_strings_arrive_unchanged_and_none_is_run(slurm_bench: Bench) -> None:
    texts = hostile()
    assert len(texts) == COUNT
    variables = {f"WORD_{number}": text for number, text in enumerate(texts)}
    recipes = slurm_bench.root / "recipes"
    recipes.mkdir(exist_ok=True)
    recipe = {
        "defaults": ["demo", "_self_"],
        "evaluate": {"prompts": [literal(text) for text in texts], "max_new_tokens": 1},
        "cluster": {"environment": {name: literal(text) for name, text in variables.items()}},
    }
    # JSON is YAML in which a text is never taken for a number.
    (recipes / "hostile.yaml").write_text("# @package _global_\n" + json.dumps(recipe, ensure_ascii=False))
    bench = Bench(
        root=slurm_bench.root,
        environment={**slurm_bench.environment, "LAUNCHER_RUNS_ROOT": str(slurm_bench.root / FOLDER)},
    )
    tags = f"tracking.tags=[{','.join(typed(text) for text in texts)}]"
    words = ["hostile", *bench.base[1:], "cluster=devslurm", "cluster.gpus_per_node=1", tags, "train.max_steps=1"]
    process = bench.popen("submit", *words, "--follow")
    seen: list[dict[str, str]] = []
    while process.poll() is None:
        seen = rank_environments(bench.root / FOLDER) or seen
    assert process.returncode == 0, process.communicate()
    (run,) = (bench.root / FOLDER).glob("hostile-*")
    assert seen, "the ranks were not seen"
    assert {name: value for name, value in seen[-1].items() if name.startswith("WORD_")} == variables
    answered = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert [answer["prompt"] for answer in answered if answer["step"] == 1] == texts
    assert json.loads((run / "plan.json").read_text())["config"]["tracking"]["tags"] == texts
    repeated = json.loads(bench.run("submit", "--from", run.name, "--dry-run", "--json").stdout)
    assert repeated["config"]["tracking"]["tags"] == texts
    assert not list(bench.root.rglob(CANARY))
    assert not list(Path.cwd().glob(CANARY))
