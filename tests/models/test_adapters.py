"""Adapters and frozen weights: what is chosen, what they begin with, and that a merge is peft's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig

from launcher.checkpoint.adapter_dir import write_adapter
from launcher.checkpoint.merge import whole_weights
from launcher.checkpoint.trained import trained_names
from launcher.config.adapter import AdapterConfig, AdapterKind
from launcher.config.schema import ModelConfig
from launcher.errors import UserError
from launcher.models.adapters import choose_trained
from launcher.models.base import BaseWeights, base_mark
from launcher.models.quantised import quantised_loading
from tests.config.test_validate import changed

LORA = AdapterConfig(
    kind=AdapterKind.lora,
    r=4,
    alpha=8.0,
    dropout=0.0,
    targets=["all-linear"],
    train_also=[],
    rslora=False,
    dora=False,
    double_quant=False,
)
FULL = replace(LORA, kind=AdapterKind.full)
MODEL: ModelConfig = changed().model


def tiny(*, tied: bool = False) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        LlamaConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            vocab_size=32,
            tie_word_embeddings=tied,
        )
    )


def chosen(model: Any, adapter: AdapterConfig = FULL, freeze: tuple[str, ...] = (), new: tuple[str, ...] = ()) -> Any:
    choose_trained(model, replace(MODEL, freeze=list(freeze)), adapter, 7, torch.float32, new)
    return model


def trained(model: Any) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def test_all_linear_is_every_linear_layer_but_the_head_and_the_base_is_frozen() -> None:
    model = chosen(tiny(), LORA)
    assert len(trained(model)) == 2 * 7 * 2
    assert all(".lora_A.default." in name or ".lora_B.default." in name for name in trained(model))
    assert set(model.state_dict()) & trained_names(model) == trained(model)
    assert "lm_head.weight" in dict(model.named_parameters())


def test_modules_beside_the_adapters_are_trained_whole() -> None:
    model = chosen(tiny(), replace(LORA, targets=["q_proj"], train_also=["norm", "embed_tokens"]))
    beside = {name for name in trained(model) if "lora" not in name}
    assert beside == {"model.norm.weight", "model.embed_tokens.weight"}
    assert len(trained(model)) - len(beside) == 4


def test_first_values_follow_from_seed_and_name_and_change_nothing() -> None:
    ids = torch.arange(8)[None]
    before = tiny()(ids).logits
    torch.manual_seed(99)
    one, few = chosen(tiny(), LORA), chosen(tiny(), replace(LORA, targets=["v_proj"]))
    name = "model.layers.1.self_attn.v_proj.lora_A.default.weight"
    first = one.get_parameter(name)
    assert torch.equal(first, few.get_parameter(name))
    assert not torch.equal(first, one.get_parameter(name.replace("v_proj", "k_proj")))
    assert 0.8 * 16**-0.5 < first.abs().max() <= 16**-0.5
    torch.testing.assert_close(one(ids).logits, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("adapter", "words"),
    [
        (replace(LORA, targets=["q_prj"]), "q_proj"),
        (replace(LORA, targets=["norm"]), "no linear layer"),
        (replace(LORA, train_also=["lm_heed"]), "lm_head"),
        (replace(LORA, train_also=["q_proj"]), "be trained itself"),
        (replace(LORA, train_also=["mlp"], targets=["up_proj"]), "be trained itself"),
    ],
)
def test_names_that_fit_nothing_or_twice_are_refused(adapter: AdapterConfig, words: str) -> None:
    with pytest.raises(UserError, match=words):
        chosen(tiny(), adapter)


def test_a_tied_head_is_refused_by_its_second_name() -> None:
    with pytest.raises(UserError, match="shares its weight"):
        chosen(tiny(tied=True), replace(LORA, targets=["lm_head"]))
    assert chosen(tiny(), replace(LORA, targets=["lm_head"]))
    with pytest.raises(UserError, match=r"name that one: model\.embed_tokens"):
        chosen(tiny(tied=True), replace(LORA, train_also=["lm_head"]))
    assert chosen(tiny(tied=True), replace(LORA, train_also=["embed_tokens"]))


def test_patterns_freeze_what_they_are_found_in_by_any_of_its_names() -> None:
    model = chosen(tiny(), freeze=("embed_tokens", r"layers\.0\."))
    assert not any("embed" in name or ".0." in name for name in trained(model))
    assert "lm_head.weight" in trained(model)
    tied = chosen(tiny(tied=True), freeze=("lm_head",))
    assert "model.embed_tokens.weight" not in trained(tied)
    # DeepSpeed would leave the second name in its file.
    assert not {"lm_head.weight", "model.embed_tokens.weight"} & trained_names(tied)


@pytest.mark.parametrize(
    ("freeze", "new", "words"),
    [
        (("embed_tokns",), (), "embed_tokens"),
        ((".",), (), "nothing is left"),
        (("lm_h",), ("lm_head.weight",), "random"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(freeze: tuple[str, ...], new: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        chosen(tiny(), freeze=freeze, new=new)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tiny().save_pretrained(tmp_path / "base", max_shard_size="5KB")
    return tmp_path / "base"


KINDS = {
    "lora": LORA,
    "rslora": replace(LORA, rslora=True, targets=["q_proj", "down_proj"]),
    "dora": replace(LORA, dora=True),
    "beside": replace(LORA, targets=["v_proj"], train_also=["lm_head"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_merge_is_pefts_merge_and_the_model_that_was_trained(base: Path, tmp_path: Path, kind: str) -> None:
    adapter = KINDS[kind]
    model = chosen(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    with torch.no_grad():
        for name in sorted(trained(model)):
            weight = model.get_parameter(name)
            weight += 0.3 * torch.randn(weight.shape)
    weights = {name: weight for name, weight in model.state_dict().items() if name in trained_names(model)}
    skeleton = tiny()
    lazy = whole_weights(weights, BaseWeights(base), list(skeleton.state_dict()), adapter, torch.float32)
    whole = {name: weight.contiguous() for name, weight in lazy.items()}
    assert all(tuple(lazy[name].shape) == whole[name].shape for name in lazy)

    config = replace(changed(), adapter=adapter, model=replace(MODEL, path=str(base)))
    (tmp_path / "adapter").mkdir()
    write_adapter(tmp_path / "adapter", weights, config, tiny(), torch.float32, task="CAUSAL_LM")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter").eval()
    ids = torch.arange(12)[None]
    with torch.no_grad():
        expected = model(ids).logits
        torch.testing.assert_close(loaded(ids).logits, expected, rtol=0, atol=1e-5)
        theirs = loaded.merge_and_unload().state_dict()
        assert theirs.keys() == whole.keys()
        for name, weight in theirs.items():
            torch.testing.assert_close(whole[name], weight, rtol=1e-6, atol=1e-6)
        skeleton.load_state_dict(whole)
        torch.testing.assert_close(skeleton.eval()(ids).logits, expected, rtol=0, atol=1e-5)
    # It must have learnt something for this to mean anything.
    assert (expected - AutoModelForCausalLM.from_pretrained(base)(ids).logits).abs().max() > 1e-2


def test_a_base_in_4_bits_is_frozen_near_the_original_and_stays_the_same_when_it_is_evaluated(base: Path) -> None:
    adapter = replace(LORA, kind=AdapterKind.qlora, train_also=["o_proj"], targets=["q_proj", "down_proj"])
    loading = quantised_loading(adapter, torch.bfloat16, torch.device("cpu"))
    model = chosen(AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, **loading), adapter)
    layer = model.model.layers[0]
    assert layer.self_attn.q_proj.base_layer.weight.dtype is torch.uint8
    assert layer.self_attn.o_proj.weight.dtype is model.lm_head.weight.dtype is torch.bfloat16
    assert layer.self_attn.o_proj.weight.requires_grad
    # Quantised weights bring entries of their own, of which a checkpoint wants none.
    assert any("quant_map" in name for name in model.state_dict())
    assert set(model.state_dict()) & trained_names(model) == trained(model)

    ids = torch.arange(12)[None]
    before = layer.self_attn.q_proj.base_layer.weight.clone()
    logits = model.train()(ids).logits
    logits.float().logsumexp(-1).sum().backward()
    assert layer.self_attn.q_proj.lora_B["default"].weight.grad.abs().max() > 0
    with torch.no_grad():
        model.eval()(ids)
    assert torch.equal(layer.self_attn.q_proj.base_layer.weight, before)
    assert torch.equal(model.train()(ids).logits, logits)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)(ids).logits
    assert 0 < (plain - logits).abs().max() < 0.2


def test_the_mark_of_a_base_follows_its_content_and_not_its_place(base: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in base.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert base_mark(base) == base_mark(copy)
    file = sorted(copy.glob("*.safetensors"))[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    base_mark.cache_clear()
    assert base_mark(base) != base_mark(copy)


def test_weights_that_the_files_know_by_other_names_are_missed(base: Path) -> None:
    weights = BaseWeights(base)
    assert weights.lacking(["model.norm.weight", "lm_head.weight"]) == []
    assert weights.lacking(["model.norm.weight", "head.weight"]) == ["head.weight"]
    assert weights.shape("model.embed_tokens.weight") == (32, 16)
