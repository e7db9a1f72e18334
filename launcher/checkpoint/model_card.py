"""The README.md of an exported model: where it comes from, in the form that the Hugging Face hub reads. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import launcher
from launcher.checkpoint.manifest import Manifest
from launcher.config.schema import Dtype, Init
from launcher.objectives.registry import objective_of
from launcher.runplan import RunPlan


def model_card(plan: RunPlan, manifest: Manifest, dtype: Dtype, environment: dict[str, Any]) -> str:
    """Base model, data, recipe, step and commit, as Markdown with the hub's front matter."""
    config = plan.config
    base = config.model.path if config.model.init is Init.pretrained else "none (random weights)"
    git = environment.get("git") or {}
    commit = git.get("commit", "outside a checkout") + (" with uncommitted changes" if git.get("diff") else "")
    rows = {
        "Base model": base,
        **_parent(manifest.lineage),
        "Objective": config.objective.name,
        "Recipe": plan.recipe,
        "Run": plan.run_id,
        "Training data": ", ".join(Path(source.name).name for source in plan.train_data.sources),
        "Data fingerprint": f"{plan.fingerprint.data} (tokenised: {manifest.data[:16]})",
        "Optimiser step": f"{manifest.step} of {manifest.total_steps}",
        "Trained tokens": f"{manifest.tokens:,}",
        "Global batch": f"{plan.batch.global_batch_size} sequences of at most {config.data.seq_len} tokens",
        "Precision": f"trained in {config.precision.dtype.value}, stored in {dtype.value}",
        "Commit": commit,
        "Software": f"zero-launcher {launcher.__version__}, "
        + ", ".join(
            f"{name} {environment['packages'].get(name, '?')}" for name in ("torch", "deepspeed", "transformers")
        ),
    }
    head = objective_of(config).needs.head is not None
    task = "text-classification" if head else "text-generation"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    hub_base = f"base_model: {base}\n" if config.model.init is Init.pretrained and not Path(base).is_absolute() else ""
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: {task}\n{hub_base}---\n\n"
        f"# {plan.run_id}\n\n| | |\n|---|---|\n{table}\n\n"
        "```python\nfrom transformers import pipeline\n\n"
        f'{"classify" if head else "generate"} = pipeline("{task}", model="PATH/OF/THIS/FOLDER")\n```\n'
    )


def _parent(lineage: dict[str, str]) -> dict[str, str]:
    if "parent_run" not in lineage:
        return {}
    return {"Parent run": f"{lineage['parent_run']} at step {lineage['parent_step']}, whose export is the base"}
