"""Each objective trains on two ranks: it learns, resumes bit for bit, and its export is the model that was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from launcher.data.tokens import TokenStore
from tests.workbench import Bench, held_out, losses, records

pytestmark = pytest.mark.train

STEPS = 24
LEARNING = ["optim.lr=5e-3", f"train.max_steps={STEPS}", "train.eval_every=12", "train.micro_batch_size=2"]
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


def several(number: int) -> dict[str, object]:
    return {"text": f"{'red ' * (number % 2)}{number}{' blue' * (number // 2 % 2)}", "label": ["a"] * (number % 2)}


def valued(number: int) -> dict[str, object]:
    return {"text": "many words " * (number % 3) + str(number), "label": (number % 3) - 1.0}


def prose(number: int) -> dict[str, object]:
    return {"text": f"the quick brown fox number {number} jumps over the lazy dog " * (1 + number % 3)}


CASES = {
    "dpo-zero2": (pair, ["objective=dpo", "zero=zero2"]),
    "ipo-zero3-packed": (pair, ["objective=dpo", "objective.options.loss=ipo", "zero=zero3", "data.packing=true"]),
    "orpo-zero2": (pair, ["objective=dpo", "objective.options.loss=orpo", "zero=zero2"]),
    "reward-zero3": (pair, ["objective=reward", "zero=zero3"]),
    "classes-zero2-packed": (
        labelled,
        ["objective=classify", "objective.options.labels=[a,b,c]", "zero=zero2", "data.packing=true"],
    ),
    "classes-zero3": (labelled, ["objective=classify", "objective.options.labels=[a,b,c]", "zero=zero3"]),
    "values-zero2": (valued, ["objective=classify", "objective.options.kind=regression", "zero=zero2"]),
    "pretrain-zero3": (
        prose,
        ["objective=pretrain", "zero=zero3", "data.packing=true", "data.overlong=split", "train.global_batch_size=4"],
    ),
}
MEASURE = {
    "dpo": "reward_accuracy",
    "ipo": "reward_accuracy",
    "orpo": "reward_accuracy",
    "reward": "accuracy",
    "classes": "accuracy",
}


def overrides(bench: Bench, folder: Path, case: str) -> list[str]:
    make, more = CASES[case]
    for name, numbers in (("train", range(60)), ("held_out", range(100, 112))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(make(number)) + "\n" for number in numbers))
    data = [f"data.train={folder / 'train.jsonl'}", f"data.eval={folder / 'held_out.jsonl'}"]
    return [*data, *LEARNING, *more]


@pytest.mark.parametrize("case", CASES)
def test_it_learns_and_its_export_loads(bench: Bench, tmp_path: Path, case: str) -> None:
    run = bench.train(*overrides(bench, tmp_path, case))
    found = held_out(run)
    assert found[STEPS] < 0.8 * found[0]
    kind = case.split("-")[0]
    if kind in MEASURE:
        told = [record for record in records(run) if f"eval_{MEASURE[kind]}" in record]
        assert told[-1][f"eval_{MEASURE[kind]}"] > 0.9
    bench.run("export", run.name)
    generates = kind in ("dpo", "ipo", "orpo", "pretrain")
    loader = AutoModelForCausalLM if generates else AutoModelForSequenceClassification
    assert loader.from_pretrained(run / "export").config.model_type == "llama"


@pytest.mark.parametrize("case", ["dpo-zero2", "classes-zero3"])
def test_it_resumes_bit_for_bit(bench: Bench, tmp_path: Path, case: str) -> None:
    own = overrides(bench, tmp_path, case)
    straight = bench.train(*own)
    stopped = bench.train(*own, "train.stop_at=7")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)
    assert held_out(stopped) == held_out(straight)


def prepared(run: Path, rows: int) -> TokenStore:
    stores = [TokenStore(folder) for folder in (run.parent / ".data").iterdir() if folder.name[0] != "."]
    return next(store for store in stores if len(store) == rows and store.meta.target_width == 1)


def test_an_exported_classifier_decides_as_training_measured(bench: Bench, tmp_path: Path) -> None:
    run = bench.train(*overrides(bench, tmp_path, "classes-zero3"))
    bench.run("export", run.name)
    model = AutoModelForSequenceClassification.from_pretrained(run / "export").eval()
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    store, total = prepared(run, 12), 0.0
    for row in range(len(store)):
        ids = torch.from_numpy(store.row(row)[0].astype("int64"))
        with torch.no_grad():
            logps = model(input_ids=ids[None]).logits[0].log_softmax(dim=-1)
        total -= float(logps[int(store.targets(np.array([row]))[0, 0])])
    assert total / len(store) == pytest.approx(held_out(run)[STEPS], rel=1e-5)


def test_the_untrained_models_word_is_kept_and_asked_for_when_it_is_gone(bench: Bench, tmp_path: Path) -> None:
    run = bench.train(*overrides(bench, tmp_path, "dpo-zero2"), "train.stop_at=3")
    held_out_file, train_file = sorted((run / "reference").glob("*.f32"), key=lambda file: file.stat().st_size)
    for file, rows in ((held_out_file, 24), (train_file, 120)):
        values = np.fromfile(file, dtype=np.float32)
        assert len(values) == rows
        assert (values < 0).all()
    train_file.unlink()
    resumed = bench.run("resume", run.name, "train.stop_at=null", "--follow", check=False)
    assert resumed.returncode != 0
    assert "log-probabilities of the untrained model are gone" in bench.run("why", run.name).stdout


def test_rows_of_another_kind_are_refused_before_anything_is_queued(bench: Bench, tmp_path: Path) -> None:
    own = [word for word in overrides(bench, tmp_path, "dpo-zero2") if not word.startswith("objective")]
    for objective, words in (("sft", "two answers"), ("classify", "no label")):
        more = ["objective.options.labels=[a,b]"] if objective == "classify" else []
        answer = bench.run("plan", *bench.base, *own, f"objective={objective}", *more, check=False)
        assert answer.returncode == 2
        assert words in answer.stderr
