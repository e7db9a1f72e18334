"""One run with all that is measured on the way: sets with names, slices, answers; and all of it after a resume."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from launcher.cli.main import main
from tests.workbench import Bench, losses, records, write_rows

pytestmark = pytest.mark.train

PROMPTS = ["row 3", "row 4", "the fox"]


def evaluations(run: Path) -> list[dict[str, Any]]:
    kept = [record for record in records(run) if "eval_loss" in record]
    return [{name: value for name, value in record.items() if name != "attempt"} for record in kept]


def slices(run: Path) -> list[tuple[int, dict[str, Any]]]:
    return [(record["step"], record["slices"]) for record in records(run) if "slices" in record]


def samples(run: Path) -> list[tuple[int, str, str]]:
    lines = map(json.loads, (run / "samples.jsonl").read_text().splitlines())
    return [(line["step"], line["prompt"], line["answer"]) for line in lines]


def scored(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "answers.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "attempt"} for line in lines]


def with_field(path: Path, field: str, values: list[str]) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    tagged = ({**row, field: values[number % len(values)]} for number, row in enumerate(rows))
    path.write_text("".join(json.dumps(row) + "\n" for row in tagged))


def test_everything_is_measured_and_a_resumed_run_measures_the_same(started: Bench, tmp_path: Path) -> None:
    bench = started
    near, far = write_rows(tmp_path / "near.jsonl", 7, offset=1000), write_rows(tmp_path / "far.jsonl", 5, offset=2000)
    with_field(near, "lang", ["de", "fr"])
    overrides = [
        f"data.eval={{near:{near},far:{{path:{far},tags:{{lang:en}}}}}}",
        "data.slices=[lang]",
        f"evaluate.prompts=[{','.join(PROMPTS)}]",
        "evaluate.max_new_tokens=6",
        "zero=zero3",
        "model.activation_checkpointing=true",
        "evaluate.answers={limit:5,max_new_tokens:12,at_once:2}",
        "evaluate.answers.by_set={near:[rouge,squad]}",
        "checkpoint.best_by=eval_near_token_f1",
        "train.patience=9",
        "train.eval_every=4",
        "optim.lr=5e-3",
        "tracking=offline",
    ]
    straight = bench.train(*overrides)
    stopped = bench.train(*overrides, "train.stop_at=6")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)
    assert evaluations(stopped) == evaluations(straight)
    assert slices(stopped) == slices(straight)
    assert samples(stopped) == samples(straight)
    assert scored(stopped) == scored(straight)

    found = evaluations(straight)
    assert [record["step"] for record in found] == [0, 4, 8]
    trained = losses(straight)
    for record in found:
        both = (
            record["eval_near_tokens"] * record["eval_near_loss"] + record["eval_far_tokens"] * record["eval_far_loss"]
        )
        assert record["eval_loss"] == pytest.approx(both / record["eval_tokens"], rel=1e-9)
        assert record["eval_far_perplexity"] == pytest.approx(math.exp(record["eval_far_loss"]), rel=1e-9)
        assert record["eval_near_loss_change"] == record["eval_near_loss"] - found[0]["eval_near_loss"]
        if record["step"]:
            mean = math.fsum(trained[record["step"] - back] for back in range(4)) / 4
            assert record["eval_far_gap"] == pytest.approx(record["eval_far_loss"] - mean, abs=1e-9)
        assert record["eval_near_rouge_l"] == record["eval_rouge_l"] >= 0
        assert "eval_far_rouge_l" not in record
    assert found[-1]["eval_loss_change"] < 0
    assert [(one["step"], one["set"]) for one in scored(straight)] == [
        (step, "eval_near") for step in (0, 4, 8) for _ in range(3)
    ]

    for (step, told), record in zip(slices(straight), found, strict=True):
        near_slices, far_slices = told["eval_near"]["lang"], told["eval_far"]["lang"]
        assert step == record["step"]
        assert {name: numbers["examples"] for name, numbers in near_slices.items()} == {"de": 4, "fr": 3}
        assert {name: numbers["examples"] for name, numbers in far_slices.items()} == {"en": 5}
        parts = sum(numbers["tokens"] * numbers["loss"] for numbers in near_slices.values())
        assert parts / record["eval_near_tokens"] == pytest.approx(record["eval_near_loss"], rel=1e-9)
        assert far_slices["en"]["loss"] == pytest.approx(record["eval_far_loss"], rel=1e-9)

    assert [(step, prompt) for step, prompt, _ in samples(straight)] == [(s, p) for s in (0, 4, 8) for p in PROMPTS]
    sent = json.loads((straight / "wandb" / "position.json").read_text())
    assert sent == {
        "bytes": (straight / "metrics.jsonl").stat().st_size,
        "samples": (straight / "samples.jsonl").stat().st_size,
    }
    assert main(["report", str(straight), str(stopped)]) == 0
    page = (straight / "report.html").read_text()
    for said in ("eval_near_loss", "eval_far by lang", "row 3"):
        assert said in page
