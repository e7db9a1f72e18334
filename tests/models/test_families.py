"""Models as people bring them: pretrained directories of several families, their own rows, start to finish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig, Qwen3Config

from tests.workbench import Bench, losses, make_bench, write_tokenizer

pytestmark = pytest.mark.train

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 300,
    "max_position_embeddings": 128,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "bos_token_id": None,
}
FAMILIES = {
    "qwen": Qwen3Config(**SIZES, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("families"))
    rows = [{"prompt": f"How much is {n} and {n}?", "completion": f" It is {2 * n}."} for n in range(60)]
    (bench.root / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return bench


def pretrained(bench: Bench, family: str) -> Path:
    """A directory as transformers writes it, weights included."""
    folder = bench.root / family
    if not folder.exists():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(FAMILIES[family]).save_pretrained(folder)
        write_tokenizer(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pretrained_directory_trains_resumes_and_exports(bench: Bench, family: str) -> None:
    folder = pretrained(bench, family)
    own = [f"model.path={folder}", "model.init=pretrained", f"data.train={bench.root / 'sums.jsonl'}", "data.eval=null"]
    run = bench.train(*own, "train.stop_at=4", "optim.lr=1e-9")
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    bench.run("resume", run.name, "train.stop_at=null", "--follow")
    assert list(losses(run)) == list(range(1, 9))
    bench.run("export", run.name)
    exported = AutoModelForCausalLM.from_pretrained(run / "export")
    # With next to no learning rate, what comes out is what went in: nothing was lost or renamed on the way.
    assert exported.state_dict().keys() == weights.keys()
    for name, weight in exported.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=1e-6)


def test_partitioned_and_whole_loading_start_from_the_same_weights(bench: Bench) -> None:
    own = [f"model.path={pretrained(bench, 'qwen')}", "model.init=pretrained", "train.max_steps=1", "data.eval=null"]
    first = [losses(bench.train(*own, f"zero.stage={stage}"))[1] for stage in (2, 3)]
    assert first[0] == pytest.approx(first[1], rel=1e-6)
