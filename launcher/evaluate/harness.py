"""lm-evaluation-harness, asked about an exported model. Everything that knows its names is here."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.evaluate.request import Request, Score, TaskResult

SEED = 1234
"""Of the choice of worked examples, of generation and of bootstrapped errors."""


def version() -> str:
    """Name and version, as results tell it."""
    return f"lm-evaluation-harness {importlib.metadata.version('lm_eval')}"


def run_tasks(model: Path, request: Request, task_files: Path | None, *, accelerated: bool) -> dict[str, Any]:
    """The harness's own answer for an exported model.

    Looks for tasks in `task_files` before its own. Code that comes with a data set or that the model writes is not run.
    """
    import lm_eval
    import torch
    from lm_eval.tasks import TaskManager

    cuda = accelerated and torch.cuda.is_available()
    answer: dict[str, Any] = lm_eval.simple_evaluate(
        model="hf",
        model_args={
            "pretrained": str(model),
            "dtype": "auto",
            "trust_remote_code": False,
            "parallelize": cuda and request.gpus > 1,
        },
        tasks=request.tasks,
        # Its own thousands of task files take a while to index.
        task_manager=TaskManager(
            include_path=None if task_files is None else str(task_files), include_defaults=not request.offline
        ),
        num_fewshot=request.few_shot,
        limit=request.limit,
        batch_size=request.batch_size,
        device="cuda" if cuda else "cpu",
        apply_chat_template=request.chat,
        fewshot_as_multiturn=request.chat,
        log_samples=False,
        confirm_run_unsafe_code=False,
        random_seed=SEED,
        numpy_random_seed=SEED,
        torch_random_seed=SEED,
        fewshot_random_seed=SEED,
    )
    return answer


def task_results(answer: Mapping[str, Any]) -> dict[str, TaskResult]:
    """The harness's answer in our terms."""
    return {name: _task(name, found, answer) for name, found in answer["results"].items()}


def _task(name: str, found: Mapping[str, Any], answer: Mapping[str, Any]) -> TaskResult:
    better = answer.get("higher_is_better", {}).get(name) or {}
    scores = {}
    for key, value in found.items():
        # `acc,none` and `acc_stderr,none`; beside them stand names and counts.
        measure, comma, filtered = key.partition(",")
        if not comma or measure.endswith("_stderr"):
            continue
        label = measure if filtered == "none" else f"{measure} ({filtered})"
        scores[label] = Score(
            value=_number(value),
            stderr=_number(found.get(f"{measure}_stderr,{filtered}")),
            higher_is_better=better.get(measure),
        )
    counts = answer.get("n-samples", {}).get(name) or {}
    return TaskResult(
        version=str(answer.get("versions", {}).get(name, "?")),
        few_shot=answer.get("n-shot", {}).get(name),
        samples=counts.get("effective"),
        scores=scores,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
