"""Which held-out measures an evaluation will have, by the names of metrics.jsonl, before there is any.

Ground floor: the submitting side checks names with it, the node side gives them. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from launcher.evaluate.scores import METRICS
from launcher.objectives.protocol import Objective, Per

ALL = "eval"
"""All held-out rows together, however many sets they come in."""
LOSS_CHANGE = "loss_change"
"""The loss less that of the model before its first step: what training has cost on rows that it is not for."""
GAP = "gap"
"""The loss less that of the training steps before: what grows while rows are learnt by heart."""


def prefixes(sets: Iterable[str]) -> list[str]:
    """What names of measures begin with: `eval` for all rows together, and `eval_NAME` for each set with a name."""
    return [ALL, *(key for key in sets if key != ALL)]


def best_names(objective: Objective, sets: Iterable[str], scored: Mapping[str, Sequence[str]]) -> list[str]:
    """Measures that can tell the best checkpoint, the losses first; `scored` are the metrics that answers to a set's
    rows are scored by.
    """
    # What an objective sums up beside its measures is its own affair; few do.
    summaries: tuple[str, ...] = getattr(objective, "summaries", ())
    kinds = ["loss", LOSS_CHANGE, *objective.measures, *summaries]
    if objective.needs.per is Per.token:
        kinds.append("perplexity")
    return [*(f"{prefix}_{kind}" for kind in kinds for prefix in prefixes(sets)), *score_names(scored)]


def score_names(scored: Mapping[str, Sequence[str]]) -> list[str]:
    """What is told of the answers to held-out rows: of all of them, then of each set with a name."""
    every = {ALL: [name for names in scored.values() for name in names], **scored}
    told = (f"{prefix}_{kind}" for prefix, names in every.items() for name in names for kind in METRICS[name].measures)
    return list(dict.fromkeys(told))
