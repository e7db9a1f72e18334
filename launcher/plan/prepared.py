"""What is tokenised already of a plan's data, as far as this machine can see. Asks no network, at constant cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from launcher.data.key import find
from launcher.data.tokens import Meta
from launcher.models.source import cached
from launcher.runplan import RunPlan


def prepared(plan: RunPlan) -> list[Path] | None:
    """The prepared folders of training and held-out rows; None where one is not there."""
    model = cached(plan.config.model)
    if model is None:
        return None
    specs = [plan.train_data, *plan.eval_data.values()]
    found = [find(replace(spec, tokenizer=str(model)), Path(plan.data_cache)) for spec in specs]
    folders = [folder for folder in found if folder is not None]
    return folders if len(folders) == len(specs) else None


def trained_tokens(plan: RunPlan) -> int | None:
    """Tokens that carry loss, held-out ones among them; None where that is not known yet."""
    folders = prepared(plan)
    return None if folders is None else sum(Meta.read(folder).trained_tokens for folder in folders)
