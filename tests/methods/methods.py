"""The ways to fine-tune, each as a small run: rows, overrides, and the measure by which it has learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.objectives.rows import asking, judged, labelled, pair, prose, said

Rows = Callable[[int], dict[str, object]]
DPO = ("objective=dpo",)
CLASSES = ("objective=classify", "objective.options.labels=[a,b,c]")
ADAPTER = ("adapter.r=4", "optim.lr=2e-2", "model.init=pretrained")
DISTILL = ("objective=distill", "objective.options.teacher={teacher}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """One way to fine-tune."""

    name: str
    """A row of the table."""
    rows: Rows | None
    """What it learns from; None where the rows come with the model that they are asked of."""
    overrides: tuple[str, ...]
    """Of the run; `{base}` is a model with weights, `{teacher}` another."""
    measure: str = "eval_loss"
    """Of held-out rows."""
    better: int = -1
    """1 where more of it is better, -1 where less is."""
    stages: tuple[int, ...] = (2, 3)
    """ZeRO stages that it can train at."""
    steps: int = 24
    """Optimiser steps."""
    head: bool = False
    """Whether its export has a head of its own."""
    adapter: bool = False
    """Whether its export can be an adapter alone."""


METHODS = (
    Method(name="sft", rows=said, overrides=()),
    Method(
        name="pretrain",
        rows=prose,
        overrides=("objective=pretrain", "data.packing=true", "data.overlong=split", "train.global_batch_size=4"),
    ),
    Method(name="classify", rows=labelled, overrides=CLASSES, head=True),
    Method(name="dpo", rows=pair, overrides=DPO),
    Method(name="kto", rows=judged, overrides=("objective=kto",)),
    Method(name="reward", rows=pair, overrides=("objective=reward",), head=True),
    Method(name="distill", rows=asking, overrides=DISTILL, measure="eval_divergence"),
    Method(
        name="distill: asked beforehand",
        rows=asking,
        overrides=(*DISTILL, "objective.options.top_k=20"),
        measure="eval_divergence",
    ),
    Method(
        name="lora",
        rows=said,
        overrides=(*ADAPTER, "adapter=lora", "model.path={base}"),
        adapter=True,
    ),
    Method(
        name="qlora", rows=said, overrides=(*ADAPTER, "adapter=qlora", "model.path={base}"), stages=(2,), adapter=True
    ),
    Method(name="grpo", rows=None, overrides=("optim.lr=2e-3",), measure="eval_reward", better=1, steps=120),
    Method(name="sft, packed", rows=said, overrides=("data.packing=true", "train.global_batch_size=4")),
    Method(
        name="sft with KL to the base and a pull to the start",
        rows=said,
        overrides=("objective.options.kl=0.1", "optim.pull_to_start=0.1"),
    ),
    Method(name="dpo: cdpo", rows=pair, overrides=(*DPO, "objective.options.loss=cdpo"), stages=(2,)),
    Method(name="dpo: ipo", rows=pair, overrides=(*DPO, "objective.options.loss=ipo"), stages=(3,)),
    Method(name="dpo: orpo", rows=pair, overrides=(*DPO, "objective.options.loss=orpo"), stages=(2,)),
    Method(
        name="dpo: simpo",
        rows=pair,
        overrides=(*DPO, "objective.options.loss=simpo", "objective.options.beta=2"),
        stages=(3,),
    ),
    Method(
        name="lora: rslora",
        rows=said,
        overrides=(*ADAPTER, "adapter=lora", "adapter.rslora=true", "model.path={base}"),
        stages=(3,),
        adapter=True,
    ),
    Method(
        name="lora: dora",
        rows=said,
        overrides=(*ADAPTER, "adapter=lora", "adapter.dora=true", "model.path={base}"),
        stages=(2,),
        adapter=True,
    ),
)
