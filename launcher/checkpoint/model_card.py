"""The README.md of an exported model: where it comes from, in the form that the Hugging Face hub reads. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import launcher
from launcher.checkpoint.manifest import Manifest
from launcher.config.schema import Config, Dtype, Init
from launcher.objectives.registry import objective_of
from launcher.runplan import RunPlan


def model_card(
    plan: RunPlan,
    manifest: Manifest,
    dtype: Dtype,
    environment: dict[str, Any],
    *,
    adapter: bool = False,
    average: bool = False,
) -> str:
    """Base model, data, recipe, step and commit, as Markdown with the hub's front matter; of an `adapter` for peft."""
    config = plan.config
    base = config.model.path if config.model.init is Init.pretrained else "none (random weights)"
    git = environment.get("git") or {}
    commit = git.get("commit", "outside a checkout") + (" with uncommitted changes" if git.get("diff") else "")
    rows = {
        "Base model": base,
        "Trained": _trained(config),
        **({"Weights": f"moving average over the steps, decay {config.optim.ema_decay:g}"} if average else {}),
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
    library = "peft" if adapter else "transformers"
    usage = _peft_usage(base, head=head) if adapter else _usage(task, head=head)
    return (
        f"---\nlibrary_name: {library}\npipeline_tag: {task}\n{hub_base}---\n\n"
        f"# {plan.run_id}\n\n| | |\n|---|---|\n{table}\n\n```python\n{usage}```\n"
    )


def _trained(config: Config) -> str:
    adapter = config.adapter
    if not adapter.used:
        return f"all weights but {', '.join(config.model.freeze)}" if config.model.freeze else "all weights"
    words = f"{adapter.kind.value}, r={adapter.r}, alpha={adapter.alpha:g} on {', '.join(adapter.targets)}"
    kinds = [name for name, used in (("rsLoRA", adapter.rslora), ("DoRA", adapter.dora)) if used]
    also = [f"and {', '.join(adapter.train_also)}"] if adapter.train_also else []
    return ", ".join([words, *kinds, *also])


def _usage(task: str, *, head: bool) -> str:
    name = "classify" if head else "generate"
    return f'from transformers import pipeline\n\n{name} = pipeline("{task}", model="PATH/OF/THIS/FOLDER")\n'


def _peft_usage(base: str, *, head: bool) -> str:
    kind = "AutoModelForSequenceClassification" if head else "AutoModelForCausalLM"
    return (
        f"from peft import PeftModel\nfrom transformers import {kind}\n\n"
        f'model = PeftModel.from_pretrained({kind}.from_pretrained("{base}"), "PATH/OF/THIS/FOLDER")\n'
    )


def _parent(lineage: dict[str, str]) -> dict[str, str]:
    if "parent_run" not in lineage:
        return {}
    return {"Parent run": f"{lineage['parent_run']} at step {lineage['parent_step']}, whose export is the base"}
