"""A run on a narrow set forgets what it is not trained on; the same run with replay, and with a divergence from the
untrained model in its loss, keep that within bounds. All figures come from the runs' own evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workbench import Bench, records, write_rows

pytestmark = pytest.mark.train

BOUND = 0.1
"""Nats per token by which `general` may get worse where general rows are replayed; docs/evaluation.md names it."""
KL_BOUND = 0.3
"""The same where no general row is seen, but `objective.options.kl=3` is set."""
FORGOTTEN = 0.5
"""By which it gets worse, at least, where nothing guards it."""
LEARNING = ["optim.lr=5e-3", "train.global_batch_size=16", "schedule=constant", "zero=zero2"]


def narrow_rows(path: Path, numbers: range) -> Path:
    """Questions of another kind, with answers that end otherwise."""
    with path.open("w") as file:
        for number in numbers:
            turns = [("user", f"say {number}"), ("assistant", "lazy dog " * (1 + number % 4) + f"over {number}")]
            messages = [{"role": role, "content": content} for role, content in turns]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def changes(run: Path) -> dict[str, float]:
    """How far each set has moved, at the end."""
    last = [record for record in records(run) if "eval_loss" in record][-1]
    return {name: last[f"eval_{name}_loss_change"] for name in ("in_domain", "general")}


def test_replay_and_divergence_keep_what_a_narrow_run_forgets(bench: Bench, tmp_path: Path) -> None:
    general = write_rows(tmp_path / "general.jsonl", 200)
    sets = {
        "in_domain": narrow_rows(tmp_path / "narrow_held_out.jsonl", range(1000, 1030)),
        "general": write_rows(tmp_path / "general_held_out.jsonl", 30, offset=1000),
    }
    narrow = narrow_rows(tmp_path / "narrow.jsonl", range(200))
    base = bench.train(*LEARNING, f"data.train={general}", "data.eval=null", "train.max_steps=120")
    bench.run("export", base.name)
    tuned = [
        *LEARNING,
        f"model.path={base / 'export'}",
        "model.init=pretrained",
        f"data.eval={{{','.join(f'{name}:{path}' for name, path in sets.items())}}}",
        "train.max_steps=60",
        "train.eval_every=30",
        "checkpoint.best_by=eval_general_loss",
    ]
    unguarded = changes(bench.train(*tuned, f"data.train={narrow}"))
    mixture = f"data.train=[{{path:{narrow},weight:0.7}},{{path:{general},weight:0.3}}]"
    replayed = changes(bench.train(*tuned, mixture))
    close = changes(bench.train(*tuned, f"data.train={narrow}", "objective.options.kl=3"))
    assert unguarded["general"] > FORGOTTEN
    assert replayed["general"] < BOUND
    assert close["general"] < KL_BOUND
    # What it was trained for is learnt in all.
    assert max(each["in_domain"] for each in (unguarded, replayed, close)) < -0.5
