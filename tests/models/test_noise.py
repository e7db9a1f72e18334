"""NEFTune's noise: as large as its paper says for each row, in training only, and drawn anew from the step's seed."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from launcher.models.noise import noisy_embeddings
from tests.objectives.test_formulas import ROWS, batch_of

WIDTH, ALPHA = 16, 5.0


@pytest.mark.parametrize("packed", [False, True])
def test_noise_is_bounded_by_the_rows_own_length(packed: bool) -> None:
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=8)
    )
    batch = batch_of(ROWS, packed=packed)
    embed = model.get_input_embeddings()
    plain = embed(batch.input_ids)

    def noisy(*, training: bool) -> torch.Tensor:
        torch.manual_seed(3)
        with torch.no_grad(), noisy_embeddings(model.train(training), batch, ALPHA):
            changed: torch.Tensor = embed(batch.input_ids)
        return changed

    assert torch.equal(noisy(training=False), plain)
    first = noisy(training=True)
    assert torch.equal(first, noisy(training=True))
    assert torch.equal(embed(batch.input_ids), plain)
    for row, ids in enumerate(ROWS):
        change = (first - plain)[batch.row_ids == row].abs()
        bound = ALPHA / math.sqrt(len(ids) * WIDTH)
        assert 0.9 * bound < change.max() <= bound * 1.0001
