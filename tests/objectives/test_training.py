"""Each objective trains on two ranks: it learns, resumes bit for bit, and its export is the model that was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from launcher.data.tokens import TokenStore
from tests.objectives.rows import asking, judged, labelled, on, pair, prose, valued, write_teacher
from tests.workbench import Bench, held_out, losses, records

pytestmark = pytest.mark.train

STEPS = 24
LEARNING = ["optim.lr=5e-3", f"train.max_steps={STEPS}", "train.eval_every=12", "train.micro_batch_size=2"]
CASES = {
    "dpo-zero2": (pair, ["objective=dpo", "zero=zero2"]),
    "ipo-zero3-packed": (pair, ["objective=dpo", "objective.options.loss=ipo", "zero=zero3", "data.packing=true"]),
    "orpo-zero2": (pair, ["objective=dpo", "objective.options.loss=orpo", "zero=zero2"]),
    "kto-zero3-packed": (judged, ["objective=kto", "zero=zero3", "data.packing=true"]),
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
    "kto": "reward_accuracy",
    "reward": "accuracy",
    "classes": "accuracy",
}


def overrides(bench: Bench, folder: Path, case: str) -> list[str]:
    make, more = CASES[case]
    return [*on(folder, make), *LEARNING, *more]


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
    generates = kind in ("dpo", "ipo", "kto", "orpo", "pretrain")
    loader = AutoModelForCausalLM if generates else AutoModelForSequenceClassification
    assert loader.from_pretrained(run / "export").config.model_type == "llama"


@pytest.mark.parametrize("case", ["dpo-zero2", "kto-zero3-packed", "classes-zero3"])
def test_it_resumes_bit_for_bit(bench: Bench, tmp_path: Path, case: str) -> None:
    own = overrides(bench, tmp_path, case)
    straight = bench.train(*own)
    stopped = bench.train(*own, "train.stop_at=7")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)
    assert held_out(stopped) == held_out(straight)


def prepared(run: Path, rows: int) -> TokenStore:
    stores = [TokenStore(meta.parent) for meta in (run.parent / ".data").glob("[!.]*/meta.json")]
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


def test_ktos_point_of_reference_does_not_depend_on_how_the_batch_is_cut(bench: Bench, tmp_path: Path) -> None:
    own = [*on(tmp_path, judged), *LEARNING, "objective=kto", "zero=zero2", "train.stop_at=6", "train.eval_every=3"]
    one, two = bench.train(*own, "train.micro_batch_size=4"), bench.train(*own, "cluster.gpus_per_node=1")
    for name in ("loss", "reference_point", "eval_loss", "eval_reference_point"):
        told = [[record[name] for record in records(run) if name in record] for run in (one, two)]
        assert told[0] == pytest.approx(told[1], rel=1e-4, abs=1e-6)
        assert len(told[0]) >= 1
    assert max(record.get("reference_point", 0) for record in records(one)) > 0


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "model")


DISTILLED = {
    "zero2-packed": ["zero=zero2", "data.packing=true", "objective.options.temperature=2"],
    "zero3": ["zero=zero3", "objective.options.loss=jsd", "objective.options.hard=0.05"],
    "zero3-packed-beforehand": ["zero=zero3", "data.packing=true", "objective.options.top_k=20"],
}


@pytest.mark.parametrize("case", DISTILLED)
def test_distillation_comes_near_its_teacher_and_resumes_bit_for_bit(
    bench: Bench, tmp_path: Path, teacher: Path, case: str
) -> None:
    more = ["objective=distill", f"objective.options.teacher={teacher}", *DISTILLED[case]]
    own = [*on(tmp_path, asking), *LEARNING, *more]
    straight = bench.train(*own)
    told = [record["eval_divergence"] for record in records(straight) if "eval_divergence" in record]
    assert told[-1] < 0.8 * told[0]
    stopped = bench.train(*own, "train.stop_at=7")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)
    assert held_out(stopped) == held_out(straight)
    bench.run("export", stopped.name)
    assert AutoModelForCausalLM.from_pretrained(stopped / "export").config.hidden_size == 32


def test_a_teacher_asked_beforehand_teaches_as_one_that_is_held(bench: Bench, tmp_path: Path, teacher: Path) -> None:
    more = ["objective=distill", f"objective.options.teacher={teacher}", "zero=zero2", "train.max_steps=6"]
    own = [*on(tmp_path, asking), *LEARNING, *more, "train.eval_every=3"]
    held = bench.train(*own)
    # All of its 300 probabilities, asked by another number of ranks.
    asked = bench.train(*own, "objective.options.top_k=300", "cluster.gpus_per_node=1")
    for name in ("loss", "eval_divergence", "eval_cross_entropy"):
        told = [[record[name] for record in records(run) if name in record] for run in (held, asked)]
        assert told[0] == pytest.approx(told[1], rel=1e-5)
        assert len(told[0]) >= 3
    assert [folder.name[0] != "." for folder in (asked / "reference").glob("*/*")] == [True, True]
    assert not (held / "reference").exists()


@pytest.mark.parametrize("setting", [["zero=zero2"], ["zero=zero3", "data.packing=true"]])
def test_a_model_kept_close_to_the_untrained_one_moves_less_and_resumes_bit_for_bit(
    bench: Bench, tmp_path: Path, setting: list[str]
) -> None:
    own = [*on(tmp_path, asking), *LEARNING, "objective.options.kl=4", *setting]
    straight = bench.train(*own)
    told = [record["eval_kl"] for record in records(straight) if "eval_kl" in record]
    # At the start it is that model.
    assert told[0] == pytest.approx(0, abs=1e-5)
    stopped = bench.train(*own, "train.stop_at=7")
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)
    assert held_out(stopped) == held_out(straight)
    if "data.packing=true" not in setting:
        loose = bench.train(*own, "objective.options.kl=0.001")
        assert told[-1] < 0.5 * [record["eval_kl"] for record in records(loose) if "eval_kl" in record][-1]
