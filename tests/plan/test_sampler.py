"""What draws answers is settled in the plan, refused where it cannot, and counted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from launcher.errors import UserError
from launcher.plan import sampler
from launcher.plan.build import Request, plan_request
from launcher.plan.host import host_gb
from launcher.runplan import RunPlan

ON_GPUS = ("cluster=slurm", "cluster.partition=gpu", "cluster.gpus_per_node=2", "cluster.gpu_memory_gb=80")
QLORA = ("adapter=qlora", "model.init=pretrained", "zero=zero2")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "_installed", lambda: True)


def planned(work: Path, *overrides: str) -> RunPlan:
    (work / "judge.py").write_text("def reward(prompt, answer, reference):\n    return 1\n")
    options = ("objective.options.reward=judge.py", "objective.options.max_new_tokens=16")
    typed = ("objective=grpo", *options, "train.global_batch_size=16", *overrides)
    return plan_request(Request(recipe="demo", overrides=typed, config_dir=None, work_dir=work))


def chosen(work: Path, *overrides: str) -> str:
    return str(planned(work, *overrides).config.objective.options["sampler"])


def test_left_open_it_is_vllm_on_gpus_and_where_it_is_installed(
    demo: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (demo / "model" / "model.safetensors").write_text("weights")
    assert chosen(work, *ON_GPUS) == "vllm"
    assert chosen(work) == "transformers"
    assert chosen(work, *ON_GPUS, *QLORA) == "transformers"
    assert chosen(work, *ON_GPUS, "cluster.software.python=/opt/other/bin/python") == "transformers"
    monkeypatch.setattr(sampler, "_installed", lambda: False)
    assert chosen(work, *ON_GPUS) == "transformers"


def test_asked_for_where_it_cannot_be_it_is_refused(demo: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (demo / "model" / "model.safetensors").write_text("weights")
    asked = (*ON_GPUS, "objective.options.sampler=vllm")
    with pytest.raises(UserError, match="held in 4 bits"):
        planned(work, *asked, *QLORA)
    with pytest.raises(
        UserError, match=r"vllm_tensor_parallel: 3 do not divide 2 GPUs of a node and 4 attention heads"
    ):
        planned(work, *asked, "objective.options.vllm_tensor_parallel=3")
    monkeypatch.setattr(sampler, "_installed", lambda: False)
    with pytest.raises(UserError, match=rf"vLLM is not installed in {sys.prefix}"):
        planned(work, *asked)
    # Of an environment that this process does not see, nothing is said.
    planned(work, *asked, "cluster.software.python=/opt/other/bin/python")


def test_weights_that_its_share_does_not_hold_are_told_with_what_would(demo: Path, work: Path) -> None:
    model = work / "large"
    model.mkdir()
    document = json.loads((demo / "model" / "config.json").read_text())
    document |= {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 8}
    (model / "config.json").write_text(json.dumps(document))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).write_text((demo / "model" / name).read_text())
    asked = (*ON_GPUS, f"model.path={model}", "objective.options.sampler=vllm", "objective.options.vllm_memory=0.3")
    with pytest.raises(UserError, match=r"vllm_tensor_parallel=2 or objective\.options\.vllm_memory=0\.\d\d"):
        planned(work, *asked)
    planned(work, *asked, "objective.options.vllm_tensor_parallel=2")


def test_its_share_is_counted_while_answers_are_drawn_and_its_weights_in_host_memory_afterwards(
    demo: Path, work: Path
) -> None:
    alone = planned(work, *ON_GPUS, "objective.options.sampler=transformers")
    plan = planned(work, *ON_GPUS, "objective.options.sampler=vllm", "objective.options.vllm_memory=0.25")
    assert plan.memory.when == "answers are sampled"
    assert plan.memory.activations_gb == pytest.approx(20)
    weights = 2 * 4 * plan.memory.parameters / 1e9
    assert host_gb(plan.config, plan.memory, 1) == pytest.approx(host_gb(alone.config, alone.memory, 1) + weights)
