"""A teacher answers rows: the file does not depend on kills, and what it holds is what the teacher says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from launcher.config.schema import Attention, Dtype
from launcher.data.source import Format, Source
from launcher.errors import UserError
from launcher.evaluate.generate import Engine, Generation
from launcher.evaluate.generation_request import JOURNAL, GenerationRequest
from launcher.rundir import EvalDir
from tests.objectives.rows import write_teacher

ENDS = list(range(0, 300, 6))
ROWS = 11


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that soon comes to an end."""
    folder = write_teacher(tmp_path_factory.mktemp("teacher") / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ENDS}))
    return folder


def write_prompts(path: Path) -> Path:
    """Conversations of one turn and of two, a plain prompt, a text and what is no JSON."""
    with path.open("w") as file:
        for number in range(ROWS - 3):
            turn = [{"role": "user", "content": f"ask {number}"}, {"role": "assistant", "content": "of its own"}]
            file.write(json.dumps({"messages": turn * (1 + number % 2)}) + "\n")
        file.write(json.dumps({"prompt": "what is 7? ", "completion": "of its own"}) + "\n")
        file.write(json.dumps({"text": "of its own"}) + "\n{\n")
    return path


def made(tmp_path: Path, teacher: Path, **changes: Any) -> tuple[GenerationRequest, EvalDir]:
    rows = write_prompts(tmp_path / "rows.jsonl")
    source = Source(name="rows", paths=(str(rows),), format=Format.auto)
    facts: dict[str, Any] = {
        "out": str(tmp_path / "out.jsonl"),
        "teacher": str(teacher),
        "revision": None,
        "chat_template": None,
        "sources": [source],
        "marks": [],
        "seq_len": 64,
        "max_new_tokens": None,
        "answers": 1,
        "temperature": 0.0,
        "seed": 1,
        "batch_size": 4,
        "dtype": Dtype.fp32,
        "attention": Attention.eager,
        "accelerated": False,
    }
    place = EvalDir(tmp_path / "out.jsonl.generating")
    place.root.mkdir(exist_ok=True)
    return GenerationRequest(**{**facts, **changes}), place


def lines(request: GenerationRequest) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(request.out).read_text().splitlines()]


def test_an_answer_is_what_the_teacher_says_to_the_row_without_its_own(tmp_path: Path, teacher: Path) -> None:
    request, place = made(tmp_path, teacher)
    found = Generation(request, place, teacher).run()
    told = lines(request)
    assert found.rows == ROWS
    assert found.answers == len(told) == ROWS - 2 - found.left_out.get("answers cut off", 0)
    assert found.left_out["rows without a prompt and an answer"] == 2
    model = AutoModelForCausalLM.from_pretrained(teacher, attn_implementation="eager").eval()
    tokenizer = Generation(request, place, teacher)._tokenizer
    asked = 0
    for row in told:
        if "messages" in row:
            *before, last = row["messages"]
            assert last["role"] == "assistant"
            assert last["content"] != "of its own"
            text = tokenizer.apply_chat_template(before, add_generation_prompt=True, tokenize=False)
            said = last["content"]
        else:
            text, said = row["prompt"], row["completion"]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        size = len(ids)
        while len(ids) == size or ids[-1] not in ENDS:
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert tokenizer.decode(ids[size:-1], skip_special_tokens=True) == said
        asked += 1
    assert asked >= 5


@pytest.mark.parametrize(("answers", "temperature"), [(1, 0.0), (3, 1.0)])
def test_killed_and_gone_on_it_writes_the_same_and_asks_nothing_again(
    tmp_path: Path, teacher: Path, answers: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"answers": answers, "temperature": temperature}
    straight, place = made(tmp_path, teacher, **changes)
    passes = []
    forward = Engine.__call__

    def counted(self: Engine, **inputs: Any) -> Any:
        passes.append(1)
        return forward(self, **inputs)

    monkeypatch.setattr(Engine, "__call__", counted)
    Generation(straight, place, teacher).run()
    whole, needed = Path(straight.out).read_bytes(), len(passes)
    assert len(lines(straight)) > ROWS * answers // 2
    (tmp_path / "b").mkdir()
    request, place = made(tmp_path / "b", teacher, **changes)
    passes.clear()

    def dies(self: Engine, **inputs: Any) -> Any:
        if len(passes) == needed - 1:
            raise KeyboardInterrupt
        return counted(self, **inputs)

    monkeypatch.setattr(Engine, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        Generation(request, place, teacher).run()
    monkeypatch.setattr(Engine, "__call__", counted)
    assert not Path(request.out).exists()
    journal = place.root / JOURNAL
    kept = journal.read_bytes()
    # A line that the kill cut off counts for nothing.
    journal.write_bytes(kept + b'{"lines": ["{')
    passes.clear()
    Generation(request, place, teacher).run()
    assert Path(request.out).read_bytes() == whole
    assert journal.read_bytes().startswith(kept)
    assert 0 < len(passes) < needed
    if answers > 1:
        said = {json.dumps(row) for row in lines(request)}
        assert len(said) > ROWS


def test_a_teacher_that_never_ends_is_no_teacher(tmp_path: Path, teacher: Path) -> None:
    request, place = made(tmp_path, teacher, max_new_tokens=1, seq_len=40)
    with pytest.raises(UserError, match=r"(?s)there is no answer to keep.*answers cut off"):
        Generation(request, place, write_teacher(tmp_path / "endless")).run()
    assert not Path(request.out).exists()
