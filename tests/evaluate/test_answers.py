"""What a run writes down as its model's answers is what the exported model says, whatever the ZeRO stage; and what it
says of their worth is true of them.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.workbench import Bench, records

pytestmark = pytest.mark.train


def test_answers_are_those_of_the_exported_model(bench: Bench) -> None:
    prompts = [f"row {number}" for number in range(5)]
    asked = [f"evaluate.prompts=[{','.join(prompts)}]", "evaluate.max_new_tokens=8"]
    scored = "evaluate.answers={metrics:[rouge,squad],limit:null,max_new_tokens:8,at_once:3}"
    run = bench.train(*asked, scored, "zero=zero3", "optim.lr=1e-2", "schedule=constant", "train.max_steps=200")
    bench.run("export", run.name)
    model, tokenizer = (kind.from_pretrained(run / "export") for kind in (AutoModelForCausalLM, AutoTokenizer))

    def answer(prompt: str) -> str:
        ids = tokenizer(
            f"<|user|>{prompt}<|end|><|assistant|>", add_special_tokens=False, return_tensors="pt"
        ).input_ids
        for _ in range(8):
            with torch.no_grad():
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(dim=-1)], dim=1)
            if tokenizer.decode(ids[0, -1:]) == "<|end|>":
                break
        return str(tokenizer.decode(ids[0], skip_special_tokens=True).partition(prompt)[2])

    told = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    assert {line["prompt"]: line["answer"] for line in told if line["step"] == 200} == {
        prompt: answer(prompt) for prompt in prompts
    }
    rows = [json.loads(line)["messages"] for line in (bench.root / "held_out.jsonl").read_text().splitlines()]
    pairs = [(answer(question["content"]).strip(), wanted["content"]) for question, wanted in rows]
    rouge = RougeScorer(["rougeL"], use_stemmer=True)
    expected = [rouge.score(wanted, said)["rougeL"].fmeasure for said, wanted in pairs]
    last = [record for record in records(run) if record["step"] == 200 and "eval_rouge_l" in record]
    assert last[0]["eval_rouge_l"] == pytest.approx(math.fsum(expected) / len(rows), abs=1e-12)
    assert last[0]["eval_rouge_l"] > 0, pairs
    shown = [json.loads(line) for line in (run / "answers.jsonl").read_text().splitlines()]
    last_shown = [(line["answer"], line["reference"]) for line in shown if line["step"] == 200]
    assert len(last_shown) == 4
    assert set(last_shown) <= set(pairs)
