"""Which held-out measures an evaluation will have, by the names of metrics.jsonl, before there is any.

Ground floor: the submitting side checks names with it, the node side gives them. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def best_names(objective: Objective, sets: Iterable[str]) -> list[str]:
    """Measures that can tell the best checkpoint, the losses first."""
    # What an objective sums up beside its measures is its own affair; few do.
    summaries: tuple[str, ...] = getattr(objective, "summaries", ())
    kinds = ["loss", LOSS_CHANGE, *objective.measures, *summaries]
    if objective.needs.per is Per.token:
        kinds.append("perplexity")
    return [f"{prefix}_{kind}" for kind in kinds for prefix in prefixes(sets)]
