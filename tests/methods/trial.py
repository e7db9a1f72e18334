"""One method on a private Slurm, two ranks on two nodes: three seeds, a kill, and an export that others load."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.faultpoints import VARIABLE, Point
from launcher.publish import publish_json
from tests.methods.methods import Method
from tests.objectives.rows import on
from tests.workbench import Bench, records

SEEDS = (1, 2, 3)
SURE = 6.96
"""Student's t, one-sided, 1 %, two degrees of freedom: what three seeds give by chance once in a hundred times."""
WHEN = ("time", "attempt", "step_time_s", "tokens_per_s", "mfu", "memory_gb")
"""Of a record, what is of the moment and not of the training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one method at one ZeRO stage."""

    method: Method
    """Which."""
    stage: int
    """ZeRO stage."""
    start: tuple[float, ...]
    """Its measure before the first step, by seed."""
    end: tuple[float, ...]
    """After the last."""
    survived: bool
    """Whether the run whose rank was killed is the run that went through, record for record."""
    loaded: str
    """Whose class has loaded the export."""
    problem: str = ""
    """What went wrong; empty where nothing did."""

    @property
    def learnt(self) -> bool:
        """Whether every seed got better, and by more than three seeds give by chance."""
        gains = [self.method.better * (last - first) for first, last in zip(self.start, self.end, strict=True)]
        if not all(math.isfinite(gain) and gain > 0 for gain in gains):
            return False
        return statistics.mean(gains) > SURE * statistics.stdev(gains) / len(gains) ** 0.5

    @property
    def good(self) -> bool:
        """Whether all is as it must be."""
        return self.learnt and self.survived and bool(self.loaded) and not self.problem


def overrides(method: Method, stage: int, folder: Path, names: Mapping[str, str]) -> list[str]:
    """How the method's run is submitted."""
    rows = [] if method.rows is None else on(folder, method.rows)
    own = [text.replace("{base}", names["base"]).replace("{teacher}", names["teacher"]) for text in method.overrides]
    return [
        *("cluster=devslurm", "cluster.nodes=2", "cluster.gpus_per_node=1", f"zero=zero{stage}"),
        *("optim.lr=5e-3", "train.micro_batch_size=2", f"train.max_steps={method.steps}"),
        *(f"train.eval_every={method.steps // 2}", f"checkpoint.every_steps={method.steps // 4}"),
        *("retry.pause_s=1", *rows, *own),
    ]


def carry_out(method: Method, stage: int, bench: Bench, folder: Path, words: list[str]) -> Outcome:
    """Train with every seed, once more with a rank killed on the way, and export that."""
    runs = [bench.train(*_last(words, f"train.seed={seed}")) for seed in SEEDS]
    told = [[record[method.measure] for record in records(run) if method.measure in record] for run in runs]
    faults = folder / "faults"
    faults.mkdir()
    fault = {"point": Point.step.value, "step": method.steps // 2 + 2, "rank": 1, "action": "kill"}
    publish_json(faults / "00.json", fault)
    killed = replace(bench, environment={**bench.environment, VARIABLE: str(faults)})
    run = killed.train(*_last(words, f"train.seed={SEEDS[0]}"))
    struck = (faults / "00.struck").exists()
    bench.run("export", run.name)
    loaded = loads(run / "export", head=method.head)
    if method.adapter:
        bench.run("export", run.name, "--adapter", "--out", str(folder / "adapter"))
        loaded += f", {loads_adapter(words, folder / 'adapter')}"
    return Outcome(
        method=method,
        stage=stage,
        start=tuple(values[0] for values in told),
        end=tuple(values[-1] for values in told),
        survived=struck and timeline(run) == timeline(runs[0]),
        loaded=loaded,
        problem="" if struck else "the kill never fell",
    )


def _last(words: list[str], *more: str) -> list[str]:
    """Overrides in which the last word on a key is the only one."""
    chosen = {word.partition("=")[0]: word for word in (*words, *more)}
    return list(chosen.values())


def timeline(run: Path) -> dict[tuple[int, str], dict[str, Any]]:
    """Every record of steps and evaluations, without what is of the moment; of what was done twice, the later."""
    found = {}
    for record in records(run):
        kind = "step" if "loss" in record else "evaluation"
        found[record["step"], kind] = {name: value for name, value in record.items() if name not in WHEN}
    return found


def loads(folder: Path, *, head: bool) -> str:
    """transformers' class that loads the export and gives finite numbers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if head else AutoModelForCausalLM
    model = kind.from_pretrained(folder)
    with torch.no_grad():
        assert model(input_ids=torch.tensor([[5, 6, 7]])).logits.isfinite().all()
    return type(model).__name__


def loads_adapter(words: list[str], folder: Path) -> str:
    """peft's class that loads the adapter on the model that it was trained on."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    path = next(word.partition("=")[2] for word in words if word.startswith("model.path="))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(path), folder)
    assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"
    return type(model).__name__
