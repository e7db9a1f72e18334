"""A run's data, tokenised: found, or made now."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from launcher.data.make.prepare import prepare
from launcher.data.make.progress import shown
from launcher.runplan import RunPlan


def prepare_data(plan: RunPlan, model: Path, workers: int) -> dict[str, Path]:
    """The prepared folders of `train` and of each held-out set, by its key; `model` holds the tokenizer.

    Raises UserError for data that cannot be used.
    """
    specs = {"train": plan.train_data, **plan.eval_data}
    with shown(sys.stderr) as report:
        return {
            name: prepare(replace(spec, tokenizer=str(model)), Path(plan.data_cache), workers=workers, report=report)
            for name, spec in specs.items()
        }
