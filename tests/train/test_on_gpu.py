"""What only a GPU can show: its kernels too give the same bits every time, so that a resumed run equals a straight one.

Skipped where torch sees none. One rank, and sequences long enough for the kernels that large models train with.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.workbench import Bench, held_out, losses, make_bench, records, write_model

pytestmark = pytest.mark.train

WIDE = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}
SETTINGS = {
    "zero2": ["zero=zero2"],
    "zero3-packed": ["zero=zero3", "data.packing=true"],
    "zero3-recomputed": ["zero=zero3", "model.activation_checkpointing=true"],
    "zero1-eager": ["zero=zero1", "model.attention=eager"],
    "zero3-offload": ["zero=zero3_offload"],
    "zero2-fp16": ["zero=zero2", "precision=fp16"],
    "zero0-fp32": ["zero=zero0", "precision=fp32"],
    "zero1-muon-averaged": ["zero=zero1", "optim=muon", "optim.ema_decay=0.9"],
    "zero3-adafactor": ["zero=zero3", "optim=adafactor"],
    "zero2-adam8bit": ["zero=zero2", "optim=adam8bit"],
    "lora": ["adapter=lora", "zero=zero2", "model.init=pretrained"],
}


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A folder with a model of some width and rows of some length."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here: what its kernels do cannot be shown")
    bench = make_bench(tmp_path_factory.mktemp("gpu"))
    folder = write_model(bench.root / "model", **WIDE)
    # For adapters, which stand on weights that lie in a file; random ones are drawn anew all the same.
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    _write_long_rows(bench.root / "train.jsonl", range(80))
    _write_long_rows(bench.root / "held_out.jsonl", range(1000, 1008))
    return bench


def _write_long_rows(path: Path, numbers: Sequence[int]) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
    with path.open("w") as file:
        for number in numbers:
            said = " ".join(words[(number * 7 + place * place) % 10] for place in range(20 + number % 7 * 40))
            file.write(json.dumps({"prompt": f"row {number}: ", "completion": said}) + "\n")


def _options(setting: str) -> list[str]:
    settled = {"precision": "precision=bf16"}
    settled |= {text.partition("=")[0]: text for text in SETTINGS[setting]}
    return [
        *settled.values(),
        *("cluster.gpus_per_node=1", "cluster.accelerator=cuda", "data.seq_len=2048", "train.micro_batch_size=4"),
        *("train.eval_every=4", "checkpoint.every_steps=2", "watchdog.step_s=120"),
        *("data.clean.duplicates=keep", "data.clean.contamination=keep"),
    ]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_run_stopped_and_one_killed_on_a_gpu_equal_the_straight_one_bit_for_bit(
    gpu: Bench, setting: str, tmp_path: Path
) -> None:
    straight = gpu.train(*_options(setting))
    stopped = gpu.train(*_options(setting), "train.stop_at=5")
    gpu.run("resume", stopped.name, "train.stop_at=null", "--follow")
    (tmp_path / "00.json").write_text(json.dumps({"point": "step", "step": 6, "rank": 0, "action": "kill"}))
    faulty = Bench(root=gpu.root, environment={**gpu.environment, "LAUNCHER_FAULTS": str(tmp_path)})
    killed = faulty.train(*_options(setting))
    assert {record["attempt"] for record in records(killed)} == {1, 2}
    for run in (stopped, killed):
        assert losses(run) == losses(straight)
        assert _norms(run) == _norms(straight)
        assert held_out(run) == held_out(straight)
    assert all(record["memory_gb"] > 0 and record["step_time_s"] for record in records(straight) if "loss" in record)


def _norms(run: Path) -> dict[int, float]:
    return {record["step"]: record["grad_norm"] for record in records(run) if "loss" in record}


def test_an_export_of_a_gpu_run_answers_as_training_did(gpu: Bench) -> None:
    run = gpu.train(*_options("zero3-packed"))
    gpu.run("export", run.name, "--verify")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.parametrize("zero", ["zero=zero2", "zero=zero3"])
def test_vllm_answers_on_the_gpu_that_trains_and_lets_go_of_it_between_rollouts(gpu: Bench, zero: str) -> None:
    judge = gpu.root / "letters.py"
    judge.write_text("def reward(prompt, answer, reference):\n    return sum(map(ord, answer)) % 7\n")
    own = [
        *(zero if text.startswith("zero=") else text for text in _options("zero2")),
        "model.init=pretrained",
        "objective=grpo",
        f"objective.options.reward={judge}",
        *(f"objective.options.{text}" for text in ("group=4", "max_new_tokens=16", "sampler=vllm", "vllm_memory=0.3")),
    ]
    straight = gpu.train(*own)
    stopped = gpu.train(*own, "train.stop_at=4")
    gpu.run("resume", stopped.name, "train.stop_at=null", "--follow")
    gaps = [record["sampler_gap"] for record in records(straight) if "sampler_gap" in record]
    # In bf16 both round otherwise.
    assert len(gaps) == 8
    assert max(gaps) < 0.05
    assert losses(stopped) == losses(straight)
    assert _norms(stopped) == _norms(straight)
