"""A checkpoint becomes a Hugging Face model directory: complete or absent.

Where the trained weights lie is DeepSpeed's own arithmetic (`weights`); those that were not trained come from the
base's files. Here they are cast, cut into safetensors files and put beside config, tokenizer and model card. One
file's weights are in memory at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, GenerationConfig
from transformers.core_model_loading import revert_weight_conversion

from launcher.checkpoint.adapter_dir import write_adapter
from launcher.checkpoint.lineage import PROVENANCE, provenance
from launcher.checkpoint.manifest import BASE, Manifest, committed_steps, read_manifest, step_folder
from launcher.checkpoint.merge import whole_weights
from launcher.checkpoint.model_card import model_card
from launcher.checkpoint.read_back import read_back
from launcher.checkpoint.retain import HeldOut, best_step
from launcher.checkpoint.verify import shard_faults
from launcher.checkpoint.weights import trained_weights
from launcher.config.partial import trains_a_part
from launcher.config.schema import Dtype
from launcher.data.render.tokenizer import load_tokenizer
from launcher.errors import DoesNotHoldError, NotFoundError, Problem, UserError
from launcher.fingerprint import tokenizer_digest
from launcher.models.base import BaseWeights, base_mark
from launcher.models.dtypes import TORCH_DTYPES
from launcher.models.heap import give_back
from launcher.models.loading import with_head
from launcher.models.source import resolve
from launcher.objectives.registry import objective_of
from launcher.publish import publish_dir, publish_json, publish_text
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record

SHARD_SIZE = "5GB"


def export(
    run: RunDir,
    step: int | None,
    dtype: str | None,
    out: Path | None,
    say: Callable[[str], None],
    *,
    adapter: bool = False,
    average: bool = False,
) -> Path:
    """Write the model of a checkpoint to `out` (RUN_DIR/export by default), or its `adapter` alone, as peft loads it.

    By default it is that of the newest checkpoint, or, of a run that may stop early, of the best. With
    `average`, the moving average of its weights.

    `dtype` is bf16, fp16 or fp32; None takes the run's compute precision. Raises NotFoundError without a checkpoint,
    DoesNotHoldError when it does not verify, UserError when `out` holds something else or cannot be written, or when
    the tokenizer, or a base that was not trained, is no longer what the run was trained with.
    """
    plan = RunPlan.load(run.plan)
    if adapter and not plan.config.adapter.used:
        raise UserError(Problem(where="--adapter", message="the run has trained no adapter (adapter=full)"))
    if average and plan.config.optim.ema_decay is None:
        message = "the run has kept no average of its weights (optim.ema_decay=null)"
        raise UserError(Problem(where="--ema", message=message, remedy="export without --ema"))
    manifest = choose(run, plan, step, say)
    target = run.export if out is None else out.absolute()
    _refuse_foreign(target)
    folder = step_folder(run.checkpoints, manifest.step)
    size_gb = sum(shard.size for shard in manifest.shards) / 1e9
    say(f"verifying the checkpoint at step {manifest.step} ({size_gb:.2f} GB)")
    _verify(folder, manifest)
    base = _unchanged_base(plan, manifest)
    kind = plan.config.precision.dtype if dtype is None else Dtype(dtype)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UserError(Problem(where="--out", message=f"{target} cannot be written ({error.strerror})")) from error
    try:
        _write_all(temporary, run, base, plan, manifest, kind, say, adapter=adapter, average=average)
        _replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    record(run, Event.exported, 0, step=manifest.step, path=str(target))
    return target


def choose(run: RunDir, plan: RunPlan, step: int | None, say: Callable[[str], None]) -> Manifest:
    """The manifest of the checkpoint to export; NotFoundError where there is none."""
    if step is None and plan.config.train.patience is not None:
        metric = plan.config.checkpoint.best_by
        step = best_step(committed_steps(run.checkpoints), HeldOut(run.metrics, metric).read())
        if step is not None:
            say(f"step {step} is the best by {metric}; another with --step")
    return _manifest(run, step)


def _refuse_foreign(target: Path) -> None:
    """An export replaces an earlier export, and nothing else."""
    ours = (target / PROVENANCE).is_file()
    if target.exists() and not ours and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(
            Problem(
                where="--out",
                message=f"{target} exists and is not an export of this launcher; it is left alone",
                remedy="name a folder that does not exist yet",
            )
        )


def _unchanged_base(plan: RunPlan, manifest: Manifest) -> Path:
    """Folder of the base model; UserError if what the export takes of it is gone, or other than in training."""
    model, mark = plan.config.model, manifest.fingerprint.get(BASE)
    base = resolve(model, weights=mark is not None)
    if mark is not None and mark != base_mark(base):
        raise UserError(
            Problem(
                where="model.path",
                message=f"the weights in {base} are not those that the run was trained on top of",
                remedy="put the files back as they were; the checkpoint holds what was trained only",
            )
        )
    try:
        changed = tokenizer_digest(model, plan.train_data.chat_template) != plan.fingerprint.tokenizer
    except OSError as error:
        raise UserError(Problem(where="model.path", message=f"{error.filename}: {error.strerror}")) from error
    if changed:
        raise UserError(
            Problem(
                where="model.path",
                message=f"the tokenizer or chat template of {model.path} is not what the run was trained with",
                remedy="put the files back as they were; an export with another tokenizer would answer nonsense",
            )
        )
    return base


def _manifest(run: RunDir, step: int | None) -> Manifest:
    steps = committed_steps(run.checkpoints)
    chosen = step if step is not None else (steps[-1] if steps else None)
    manifest = read_manifest(step_folder(run.checkpoints, chosen)) if chosen in steps and chosen is not None else None
    if manifest is None:
        raise NotFoundError(
            Problem(
                where=run.root.name,
                message="there is no checkpoint yet" if step is None else f"there is no checkpoint at step {step}",
                valid=", ".join(map(str, steps)),
                remedy=f"`launcher status {run.root.name}` tells where the run stands",
            )
        )
    return manifest


def _verify(folder: Path, manifest: Manifest) -> None:
    faults = shard_faults(folder, manifest)
    if faults:
        raise DoesNotHoldError(
            Problem(
                where=str(folder),
                message="; ".join(faults),
                remedy="export an earlier one with --step; `launcher resume` passes this one over by itself",
            )
        )


def _write_all(
    out: Path,
    run: RunDir,
    base: Path,
    plan: RunPlan,
    manifest: Manifest,
    dtype: Dtype,
    say: Callable[[str], None],
    *,
    adapter: bool,
    average: bool,
) -> None:
    head = objective_of(plan.config).needs.head
    config = with_head(AutoConfig.from_pretrained(base), head)
    config.dtype = TORCH_DTYPES[dtype]
    tokenizer = load_tokenizer(str(base), plan.train_data.chat_template)
    if head is not None and config.pad_token_id is None:
        # By it transformers finds the last token of a text in a batch of several.
        config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    with torch.device("meta"):
        kind = AutoModelForCausalLM if head is None else AutoModelForSequenceClassification
        skeleton = kind.from_config(config)
    weights = trained_weights(step_folder(run.checkpoints, manifest.step), manifest.zero_stage)
    if average:
        # Here, for it imports DeepSpeed, which prints to stdout unless it is told of the CPU before.
        from launcher.checkpoint.states import AVERAGE, read_states

        weights |= read_states(step_folder(run.checkpoints, manifest.step), manifest, AVERAGE)
    if adapter:
        task = "CAUSAL_LM" if head is None else "SEQ_CLS"
        write_adapter(out, weights, plan.config, skeleton, TORCH_DTYPES[dtype], task=task)
    else:
        _write_model(out, _whole(weights, base, plan, skeleton), skeleton, config, TORCH_DTYPES[dtype], say)
        if head is None and skeleton.can_generate():
            _generation_config(base, config).save_pretrained(out)
    if head is not None and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(out)
    frozen = json.loads(run.environment.read_text(encoding="utf-8"))
    publish_text(out / "README.md", model_card(plan, manifest, dtype, frozen, adapter=adapter, average=average))
    publish_json(out / PROVENANCE, provenance(run, plan, manifest, dtype, average=average))


def _whole(trained: dict[str, Any], base: Path, plan: RunPlan, skeleton: Any) -> dict[str, Any]:
    """All weights of the model by name, of which the checkpoint holds those that were trained.

    Tied weights are stored once; loading ties them again.
    """
    tied = skeleton.all_tied_weights_keys
    if not trains_a_part(plan.config):
        return {name: weight for name, weight in trained.items() if name not in tied}
    names = [name for name in skeleton.state_dict() if name not in tied]
    own = {name: weight for name, weight in trained.items() if name not in tied}
    dtype = TORCH_DTYPES[plan.config.precision.dtype]
    return whole_weights(own, BaseWeights(base), names, plan.config.adapter, dtype)


def _write_model(
    out: Path, weights: dict[str, Any], skeleton: Any, config: Any, dtype: torch.dtype, say: Callable[[str], None]
) -> None:
    _check_names(weights, skeleton)
    _write_weights(out, weights, skeleton, dtype, say)
    config.architectures = [type(skeleton).__name__]
    config.save_pretrained(out)


def _generation_config(base: Path, config: Any) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(base)
    except OSError:
        return GenerationConfig.from_model_config(config)


def _check_names(weights: Mapping[str, Any], skeleton: torch.nn.Module) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in skeleton.state_dict().items()}
    tied = set(getattr(skeleton, "all_tied_weights_keys", ()))
    wrong = [name for name in weights if expected.get(name) != tuple(weights[name].shape)]
    missing = [name for name in expected if name not in weights and name not in tied]
    assert not wrong, f"the checkpoint's weights do not fit the model: {wrong[:5]}"
    assert not missing, f"the checkpoint lacks weights of the model: {missing[:5]}"


def _write_weights(
    out: Path, weights: Mapping[str, Any], skeleton: Any, dtype: torch.dtype, say: Callable[[str], None]
) -> None:
    empty = {name: torch.empty(tuple(tensor.shape), dtype=dtype, device="meta") for name, tensor in weights.items()}
    plan = split_torch_state_dict_into_shards(
        empty, filename_pattern="model{suffix}.safetensors", max_shard_size=SHARD_SIZE
    )
    places: dict[str, str] = {}
    for number, (file, names) in enumerate(plan.filename_to_tensors.items(), start=1):
        say(f"writing {file} ({number} of {len(plan.filename_to_tensors)}, {len(names)} tensors)")
        shard: dict[str, torch.Tensor] = {}
        for name in names:
            shard |= _as_published(skeleton, name, weights[name].contiguous().to(dtype))
            # Each weight as it was read leaves a gap that the next need not fit.
            give_back()
        places |= dict.fromkeys(shard, file)
        save_file(shard, out / file, metadata={"format": "pt"})
        _sync(out / file)
        read_back(out / file, shard)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": places}
        publish_json(out / "model.safetensors.index.json", index)


def _as_published(skeleton: Any, name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the family's own files have in a weight's place: transformers joins a block's experts when it loads them."""
    found = revert_weight_conversion(skeleton, {name: weight})
    # Pieces of one storage cannot be written.
    return dict(found) if len(found) == 1 else {own: part.clone().contiguous() for own, part in found.items()}


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _replace(temporary: Path, target: Path) -> None:
    """Put the finished folder in place of an older export."""
    if target.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
        target.rename(old / target.name)
        publish_dir(temporary, target)
        shutil.rmtree(old)
    else:
        publish_dir(temporary, target)
