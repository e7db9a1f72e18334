"""Training a part of the weights: only that is saved, the base stays as it is, and a resumed run is the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from launcher.checkpoint.safe_load import safe_types
from tests.workbench import LLAMA, Bench, held_out, losses, make_bench, write_tokenizer

pytestmark = pytest.mark.train

STEPS = 6
LORA = ["adapter=lora", "adapter.r=4", "model.activation_checkpointing=true", "optim.lr=1e-2"]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One whose model has weights."""
    bench = make_bench(tmp_path_factory.mktemp("adapters"))
    torch.manual_seed(0)
    config = json.loads((bench.root / "model" / "config.json").read_text())
    assert config == LLAMA
    from transformers import LlamaConfig

    AutoModelForCausalLM.from_config(LlamaConfig(**config)).save_pretrained(bench.root / "model")
    write_tokenizer(bench.root / "model")
    return bench


def own(*words: str) -> list[str]:
    return [f"train.max_steps={STEPS}", "train.eval_every=3", "model.init=pretrained", *words]


def stopped_and_resumed(bench: Bench, words: Sequence[str]) -> Path:
    run = bench.train(*words, "train.stop_at=4")
    bench.run("resume", run.name, "train.stop_at=null", "--follow")
    return run


def states(run: Path) -> list[dict[str, Any]]:
    """Every file of weights in the last checkpoint."""
    folder = run / "checkpoints" / f"step-{STEPS:08d}"
    with safe_types():
        return [torch.load(file, weights_only=True) for file in sorted(folder.glob("*model_states.pt"))]


def digest(folder: Path) -> list[str]:
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.safetensors"))]


@pytest.fixture(scope="module")
def zero3(bench: Bench) -> tuple[Path, Path]:
    """The run that went through, and the one that was stopped; two ranks."""
    words = own(*LORA, "zero=zero3")
    return bench.train(*words), stopped_and_resumed(bench, words)


def test_lora_at_zero3_goes_on_bit_for_bit(zero3: tuple[Path, Path]) -> None:
    straight, stopped = zero3
    assert losses(stopped) == losses(straight)
    assert held_out(stopped) == held_out(straight)
    assert len(losses(straight)) == STEPS
    assert held_out(straight)[STEPS] < held_out(straight)[0]


def test_a_checkpoint_holds_adapters_and_nothing_of_the_base(zero3: tuple[Path, Path]) -> None:
    for run in zero3:
        for state in states(run):
            names = {*state["module"], *(name for group in state["param_shapes"] for name in group)}
            assert len(names) == 2 * 7 * 2
            assert all(".lora_A.default." in name or ".lora_B.default." in name for name in names)
            assert not state["frozen_param_shapes"]
            assert not state["frozen_param_fragments"]


def test_the_merged_export_says_what_the_base_with_the_adapter_says(
    bench: Bench, zero3: tuple[Path, Path], tmp_path: Path
) -> None:
    before = digest(bench.root / "model")
    run = zero3[1]
    bench.run("export", run.name)
    bench.run("export", run.name, "--adapter", "--out", str(tmp_path / "adapter"))
    assert digest(bench.root / "model") == before
    base, whole = load_file(bench.root / "model" / "model.safetensors"), load_file(run / "export" / "model.safetensors")
    assert base.keys() == whole.keys()
    for name, weight in base.items():
        assert torch.equal(weight, whole[name]) != name.endswith("_proj.weight"), name
    ids = torch.arange(40)[None]
    with torch.no_grad():
        untrained = AutoModelForCausalLM.from_pretrained(bench.root / "model").eval()
        plain = untrained(ids).logits
        adapted = PeftModel.from_pretrained(untrained, tmp_path / "adapter").eval()(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(run / "export").eval()(ids).logits
    torch.testing.assert_close(merged, adapted, rtol=0, atol=1e-5)
    assert (merged - plain).abs().max() > 1e-2


@pytest.mark.parametrize("stage", [2, 3])
def test_lora_goes_on_with_another_number_of_ranks(bench: Bench, zero3: tuple[Path, Path], stage: int) -> None:
    run = bench.train(*own(*LORA), f"zero=zero{stage}", "train.stop_at=3")
    bench.run("resume", run.name, "cluster.gpus_per_node=1", "train.stop_at=null", "--follow")
    # In fp32 the stages compute the same.
    assert losses(run) == pytest.approx(losses(zero3[0]), rel=1e-5)
    assert held_out(run) == pytest.approx(held_out(zero3[0]), rel=1e-5)


def test_frozen_weights_stay_and_another_base_is_refused(bench: Bench) -> None:
    words = own("zero=zero2", 'model.freeze=[embed_tokens,"layers\\.0\\."]', "optim.lr=1e-2")
    straight, stopped = bench.train(*words), bench.train(*words, "train.stop_at=4")
    file = bench.root / "model" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        result = bench.run("resume", stopped.name, "train.stop_at=null", "--follow", check=False)
        assert result.returncode == 5
        assert "the frozen base was" in bench.run("why", stopped.name).stdout + bench.rank_logs()
        refused = bench.run("export", stopped.name, check=False)
        assert refused.returncode == 2
        assert "trained on top of" in refused.stderr
    finally:
        file.write_bytes(content)
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)
    bench.run("export", stopped.name)
    base, whole = load_file(file), load_file(stopped / "export" / "model.safetensors")
    for name, weight in base.items():
        assert torch.equal(weight, whole[name]) == ("embed_tokens" in name or ".layers.0." in name), name


def test_qlora_goes_on_bit_for_bit_and_its_adapter_loads(bench: Bench, tmp_path: Path) -> None:
    more = ["adapter.r=4", "adapter.dropout=0.1", "model.activation_checkpointing=true", "optim.lr=1e-2"]
    words = own("adapter=qlora", "zero=zero2", "precision=bf16", *more)
    straight, stopped = bench.train(*words), stopped_and_resumed(bench, words)
    assert losses(stopped) == losses(straight)
    assert held_out(stopped) == held_out(straight)
    assert held_out(straight)[STEPS] < held_out(straight)[0]
    for state in states(stopped):
        assert all(".lora_" in name for name in state["module"])
    bench.run("export", stopped.name)
    bench.run("export", stopped.name, "--adapter", "--out", str(tmp_path / "adapter"))
    ids = torch.arange(40)[None]
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(bench.root / "model", dtype=torch.bfloat16)
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(stopped / "export").eval()(ids).logits
    torch.testing.assert_close(merged, adapted, rtol=0.1, atol=0.1)
