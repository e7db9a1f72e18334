"""Small rows of every kind, from which a tiny model can learn something in a few steps; and a teacher of its size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.workbench import write_model

BETTER, WORSE = ("gladly", "surely", "kindly"), ("never", "nowhere", "nothing")


def pair(number: int) -> dict[str, object]:
    question = {"role": "user", "content": f"may I have {number}?"}
    yes, no = f"{BETTER[number % 3]} {number}", f"{WORSE[number % 3]} {number}"
    return {
        "chosen": [question, {"role": "assistant", "content": yes}],
        "rejected": [question, {"role": "assistant", "content": no}],
    }


def labelled(number: int) -> dict[str, object]:
    kind = number % 3
    return {"text": f"{number} " + " ".join([("red", "green", "blue")[kind]] * (1 + number % 2)), "label": "abc"[kind]}


def valued(number: int) -> dict[str, object]:
    return {"text": "many words " * (number % 3) + str(number), "label": (number % 3) - 1.0}


def prose(number: int) -> dict[str, object]:
    return {"text": f"the quick brown fox number {number} jumps over the lazy dog " * (1 + number % 3)}


def judged(number: int) -> dict[str, object]:
    good = number % 2 == 0
    answer = (BETTER if good else WORSE)[number % 3]
    return {"prompt": f"may I have {number}? ", "completion": f"{answer} {number}", "label": good}


def asking(number: int) -> dict[str, object]:
    return {"prompt": f"what is {number}? ", "completion": f"it is {number} " * (1 + number % 3)}


def said(number: int) -> dict[str, object]:
    question, answer = f"may I have {number}?", f"{BETTER[number % 3]} {number}"
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def on(folder: Path, make: Callable[[int], dict[str, object]]) -> list[str]:
    """Overrides of a run on such rows, which are written to `folder`."""
    for name, numbers in (("train", range(60)), ("held_out", range(100, 112))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(make(number)) + "\n" for number in numbers))
    return [f"data.train={folder / 'train.jsonl'}", f"data.eval={folder / 'held_out.jsonl'}"]


def write_teacher(folder: Path) -> Path:
    """A model half as wide, which is sure of what it says."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    write_model(folder, hidden_size=16)
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    with torch.no_grad():
        model.lm_head.weight.mul_(30)
    model.save_pretrained(folder)
    return folder
