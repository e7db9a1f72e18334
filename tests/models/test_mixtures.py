"""Mixtures of experts train partitioned in any way, and are exported as their families publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.models.test_families import SIZES
from tests.workbench import Bench, losses, make_bench, write_tokenizer

pytestmark = pytest.mark.train

FAMILIES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "mlp_only_layers": [0]},
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_bench(tmp_path_factory.mktemp("mixtures"))


def pretrained(bench: Bench, family: str) -> Path:
    folder = bench.root / family
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES, **FAMILIES[family])).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_two_ranks_learn_the_same_at_stages_2_and_3_and_export_the_familys_own_files(bench: Bench, family: str) -> None:
    folder = pretrained(bench, family)
    own = [f"model.path={folder}", "model.init=pretrained", "train.max_steps=2", "data.eval=null", "optim.lr=1e-3"]
    runs = [bench.train(*own, f"zero.stage={stage}") for stage in (2, 3)]
    found = [losses(run) for run in runs]
    # Each rank's rows go through experts of their own; the collectives are those of whole blocks.
    assert list(found[0]) == [1, 2]
    assert list(found[0].values()) == pytest.approx(list(found[1].values()), rel=1e-5)
    before = load_file(folder / "model.safetensors")
    for run in runs:
        bench.run("export", run.name)
        after = load_file(run / "export" / "model.safetensors")
        assert after.keys() == before.keys()
        assert {name: weight.shape for name, weight in after.items()} == {n: w.shape for n, w in before.items()}
        for name, weight in AutoModelForCausalLM.from_pretrained(run / "export").state_dict().items():
            assert name in AutoModelForCausalLM.from_pretrained(folder).state_dict()
            assert weight.isfinite().all()
