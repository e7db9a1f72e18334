"""The reward model that judges a run's answers: which one it is, and whether it can. No torch and no weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from launcher.config.schema import Config, Init, ModelConfig
from launcher.errors import Problem
from launcher.models.teacher import other_vocabulary
from launcher.objectives.protocol import Head
from launcher.objectives.registry import objective_of

KEY = "objective.options.reward"
HEAD = Head(outputs=1, problem_type="regression")
"""What `objective=reward` trains: a score."""
VALID = "FILE.py with `def reward(prompt, answer, reference): …`, or the export of a run of objective=reward"


def judge_model(config: Config) -> ModelConfig | None:
    """The reward model, to be held like the run's own model; None where a function judges, or nothing is judged."""
    rollouts = objective_of(config).needs.rollouts
    if rollouts is None or not rollouts.by_model:
        return None
    return replace(config.model, path=rollouts.reward, revision=None, init=Init.pretrained, shape=None)


def judge_problems(folder: Path, model: Path) -> Iterator[Problem]:
    """Why the folder's model cannot judge answers of the one in `model`."""
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kinds = [str(kind) for kind in document.get("architectures") or []]
        # transformers writes two outputs by leaving them out.
        outputs = len(document.get("id2label") or (0, 0))
    except (OSError, ValueError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its config.json is damaged"
        yield Problem(where=KEY, message=f"{folder} is no folder of a model ({reason})", valid=VALID)
        return
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds) or outputs != HEAD.outputs:
        said = f"{', '.join(kinds) or 'a model'} with {outputs} outputs"
        yield Problem(where=KEY, message=f"{folder} holds {said}, which gives no score", valid=VALID)
    elif not any(folder.glob("*.safetensors")):
        yield Problem(where=KEY, message=f"{folder} holds no weights (*.safetensors)", valid=VALID)
    differs = other_vocabulary(model, folder)
    if differs is not None:
        yield Problem(
            where=KEY,
            message=f"{folder} has another vocabulary than the model: {differs}",
            valid="a reward model that began from a model with the same tokenizer",
            remedy="train one from this model (objective=reward), or judge by a function that asks the other one",
        )
