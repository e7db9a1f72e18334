"""An export answers as training did: transformers loads it, and it is asked what training was asked at its end."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from launcher.checkpoint.lineage import read_provenance
from launcher.checkpoint.probe import Probe, read_probe
from launcher.config.schema import Dtype
from launcher.errors import DoesNotHoldError, NotFoundError, Problem
from launcher.objectives.registry import objective_of
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

FAR = {Dtype.fp32: 1e-4, Dtype.fp16: 1e-2, Dtype.bf16: 5e-2}
"""How far two answers may lie apart, as a share of their length: other kernels round otherwise, and each layer adds to
it."""


def require_agreement(run: RunDir, export: Path) -> str:
    """Says how closely the export agrees with training; DoesNotHoldError if it does not.

    Loads the whole model: on the GPUs there are, or in host memory. NotFoundError where training left no answer for
    the exported step.
    """
    plan = RunPlan.load(run.plan)
    said = read_provenance(export)
    assert said is not None, "exports say what they are"
    probe = read_probe(run)
    if probe is None or probe.step != said["step"]:
        known = "none" if probe is None else f"one of step {probe.step}"
        raise NotFoundError(
            Problem(
                where="--verify",
                message=f"training's own answer is needed at step {said['step']}, and there is {known}",
                remedy="a run gives it when it completes; what was exported was read back and is as it was written",
            )
        )
    apart, limit = distance(export, probe, head=objective_of(plan.config).needs.head is not None), _limit(plan, said)
    words = f"the export's outputs are {apart:.1e} from training's own (at most {limit:.0e})"
    # Written so that an answer that is no number does not agree either.
    if not apart <= limit:
        raise DoesNotHoldError(
            Problem(where=str(export), message=words, remedy="do not use it; export again, or an earlier step")
        )
    return words


def _limit(plan: RunPlan, said: dict[str, str]) -> float:
    return max(FAR[plan.config.precision.dtype], FAR[Dtype(said["dtype"])])


def distance(export: Path, probe: Probe, *, head: bool) -> float:
    """Length of the difference of the two answers as a share of the length of training's."""
    kind = AutoModelForSequenceClassification if head else AutoModelForCausalLM
    where = {"device_map": "auto"} if torch.cuda.is_available() else {}
    model = kind.from_pretrained(export, dtype="auto", **where).eval()
    # A head takes the last token that is no padding, and of one text that is the last.
    model.config.pad_token_id = None
    with torch.no_grad():
        outputs = model(input_ids=torch.tensor([probe.ids], device=model.device)).logits
    found = outputs.reshape(-1, outputs.shape[-1])[-1].double().cpu()[:: probe.every]
    wanted = torch.tensor(probe.outputs, dtype=torch.float64)
    if found.shape != wanted.shape:
        return float("inf")
    return float((found - wanted).norm() / wanted.norm())
