"""What a run writes down as its model's answers is what the exported model says, whatever the ZeRO stage."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.workbench import Bench

pytestmark = pytest.mark.train


def test_answers_are_those_of_the_exported_model(bench: Bench) -> None:
    prompts = [f"row {number}" for number in range(5)]
    asked = [f"evaluate.prompts=[{','.join(prompts)}]", "evaluate.max_new_tokens=8"]
    run = bench.train(*asked, "zero=zero3", "optim.lr=5e-3", "train.max_steps=24")
    bench.run("export", run.name)
    model, tokenizer = (kind.from_pretrained(run / "export") for kind in (AutoModelForCausalLM, AutoTokenizer))
    told = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    last = {line["prompt"]: line["answer"] for line in told if line["step"] == 24}
    assert set(last) == set(prompts)
    for prompt, answer in last.items():
        ids = tokenizer(
            f"<|user|>{prompt}<|end|><|assistant|>", add_special_tokens=False, return_tensors="pt"
        ).input_ids
        for _ in range(8):
            with torch.no_grad():
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(dim=-1)], dim=1)
            if tokenizer.decode(ids[0, -1:]) == "<|end|>":
                break
        assert answer == tokenizer.decode(ids[0], skip_special_tokens=True).partition(prompt)[2]
