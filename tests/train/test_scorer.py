"""A reward model's score is that of transformers' own classifier, on rows of any length side by side."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from launcher.data.feed.batches import side_by_side
from launcher.errors import UserError
from launcher.models.judge import HEAD
from launcher.models.loading import _every_token, with_head
from launcher.train.feed import PAD_ID
from launcher.train.reward import Scorer
from tests.workbench import write_model

ROWS = [np.arange(5, 5 + length, dtype=np.int64) for length in (3, 9, 1, 6)]


def test_scores_are_those_of_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = with_head(AutoConfig.from_pretrained(write_model(tmp_path / "model")), HEAD)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        expected = [model(input_ids=torch.tensor(row[None])).logits.item() for row in ROWS]
    model.forward = types.MethodType(_every_token, model)
    batch = side_by_side([(row, max(0, len(row) - 2)) for row in ROWS], list(range(len(ROWS))), PAD_ID)
    assert Scorer(model, torch.device("cpu"))(batch) == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 4) for score in expected}) == len(ROWS)
    with torch.no_grad():
        model.score.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"objective\.options\.reward: the reward model gave nan"):
        Scorer(model, torch.device("cpu"))(batch)
