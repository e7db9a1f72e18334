"""An export is asked what training was asked, and anything that changes the answer is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from launcher.checkpoint.agreement import FAR, distance
from launcher.checkpoint.probe import MOST_OUTPUTS, TOKENS, Probe, probe_ids, stride
from launcher.config.schema import Dtype
from tests.workbench import VOCABULARY, write_model


def exported(folder: Path, *, head: bool, pad: int | None = None) -> tuple[Path, Probe]:
    """A model directory with random weights, and what its model says."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(write_model(folder), num_labels=3, initializer_range=0.2)
    config.pad_token_id = pad
    model = (AutoModelForSequenceClassification if head else AutoModelForCausalLM).from_config(config).eval()
    ids = probe_ids(VOCABULARY)
    with torch.no_grad():
        hidden = model.model(torch.tensor([ids])).last_hidden_state[0, -1]
        outputs = (model.score if head else model.lm_head)(hidden)
    model.save_pretrained(folder)
    return folder, Probe(step=1, ids=ids, every=1, outputs=outputs.tolist())


@pytest.mark.parametrize("head", [False, True])
def test_the_same_weights_give_the_same_answer(tmp_path: Path, head: bool) -> None:
    folder, probe = exported(tmp_path / "model", head=head)
    assert distance(folder, probe, head=head) < FAR[Dtype.fp32]


def test_a_head_is_asked_about_the_last_token_even_where_that_would_be_padding(tmp_path: Path) -> None:
    folder, probe = exported(tmp_path / "model", head=True, pad=probe_ids(VOCABULARY)[-1])
    assert distance(folder, probe, head=True) < FAR[Dtype.fp32]


@pytest.mark.parametrize("name", ["model.layers.1.self_attn.v_proj", "model.layers.0.mlp.down_proj", "lm_head"])
def test_one_matrix_that_is_another_is_seen(tmp_path: Path, name: str) -> None:
    folder, probe = exported(tmp_path / "model", head=False)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        weight = model.get_submodule(name).weight
        weight.copy_(weight.flip(0))
    model.save_pretrained(folder)
    assert distance(folder, probe, head=False) > FAR[Dtype.bf16]


def test_only_some_outputs_of_a_large_vocabulary_are_kept(tmp_path: Path) -> None:
    assert (stride(3), stride(MOST_OUTPUTS), stride(MOST_OUTPUTS + 1), stride(128_256)) == (1, 1, 2, 32)
    folder, probe = exported(tmp_path / "model", head=False)
    thinned = Probe(step=1, ids=probe.ids, every=7, outputs=probe.outputs[::7])
    assert distance(folder, thinned, head=False) < FAR[Dtype.fp32]
    short = Probe(step=1, ids=probe.ids, every=1, outputs=probe.outputs[:-1])
    assert distance(folder, short, head=False) == float("inf")


@pytest.mark.parametrize("vocabulary", [7, 300, 128_256])
def test_the_tokens_are_of_the_vocabulary(vocabulary: int) -> None:
    ids = probe_ids(vocabulary)
    assert len(ids) == TOKENS
    assert all(0 <= token < vocabulary for token in ids)
