"""Pairs and labelled texts: prepared, packed and fed as one, with what they are labelled with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.data.feed.batches import IGNORED, Layout, micro_batches
from launcher.data.feed.samples import Samples
from launcher.data.formats import FieldsError, learnt, to_example
from launcher.data.make.prepare import prepare
from launcher.data.reject import RowError
from launcher.data.source import DataSpec, Duplicates, Fix, Format, Learns
from launcher.data.tokens import REJECTED_FILE, TokenStore
from tests.data.conftest import CLEAN, WriteRows

MakeSpec = Callable[..., DataSpec]


def pair(number: int) -> dict[str, Any]:
    return {"prompt": f"{number} is", "chosen": " even" * (1 + number % 3), "rejected": f" odd {number}"}


def made(spec: DataSpec, tmp_path: Path) -> TokenStore:
    return TokenStore(prepare(spec, tmp_path / "cache", workers=1))


def test_the_answers_of_a_pair_lie_side_by_side_and_carry_the_loss(
    make_spec: MakeSpec, write_rows: WriteRows, tmp_path: Path
) -> None:
    store = made(make_spec(write_rows([pair(n) for n in range(7)]), learns=Learns.pairs), tmp_path)
    assert (len(store), store.meta.rows_in, store.meta.rows_per_example) == (14, 7, 2)
    for example in range(7):
        better, worse = store.row(2 * example), store.row(2 * example + 1)
        prompt = int(np.argmax(better[1]))
        assert prompt == int(np.argmax(worse[1])) > 0
        assert better[0][:prompt].tolist() == worse[0][:prompt].tolist()
        assert better[0][prompt:].tolist() != worse[0][prompt:].tolist()


def test_a_pair_of_which_one_answer_is_too_long_is_left_out_whole(
    make_spec: MakeSpec, write_rows: WriteRows, tmp_path: Path
) -> None:
    rows = [pair(0), {**pair(1), "rejected": " odd" * 200}, pair(2)]
    store = made(make_spec(write_rows(rows), learns=Learns.pairs), tmp_path)
    assert len(store) == 4
    (rejected,) = [json.loads(line) for line in (store.folder / REJECTED_FILE).read_text().splitlines()]
    assert (rejected["step"], rejected["where"].rpartition(":")[2]) == ("overlong", "2")


@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_keeps_pairs_together(
    make_spec: MakeSpec, write_rows: WriteRows, tmp_path: Path, *, packed: bool
) -> None:
    store = made(make_spec(write_rows([pair(n) for n in range(20)]), learns=Learns.pairs), tmp_path)
    samples = Samples(store, packed=packed)
    every = np.arange(len(samples) // 2 * 2, dtype=np.int64)
    assert samples.examples(np.arange(len(samples), dtype=np.int64)) == 20
    seen = []
    for rank in range(2):
        layout = Layout(micro_batch_size=1, pad_id=0, flat=False)
        for batch in micro_batches(samples, layout, chosen=every, rank=rank, data_parallel_size=2):
            rows = [row for sample in batch.samples for row in samples.rows(sample)]
            assert batch.rows == len(rows)
            assert rows[::2] == [row - 1 for row in rows[1::2]]
            for number, row in enumerate(rows):
                mine = batch.row_ids == number
                ids, trained = store.row(row)
                assert batch.input_ids[mine].tolist() == ids.tolist()
                assert int((batch.labels[mine] != IGNORED).sum()) == int(trained.sum())
            seen += rows
    assert len(set(seen)) == len(seen)


CLASSES: dict[str, Any] = {"learns": Learns.classes, "labels": ("no", "yes")}


def test_a_labelled_text_is_what_its_tokenizer_makes_of_it_and_its_label_is_kept(
    make_spec: MakeSpec, write_rows: WriteRows, tmp_path: Path
) -> None:
    rows = [{"text": f"is it {n}?", "label": ("no", "yes")[n % 2]} for n in range(5)]
    store = made(make_spec(write_rows(rows), **CLASSES), tmp_path)
    assert store.targets(np.arange(5)).tolist() == [[0.0], [1.0], [0.0], [1.0], [0.0]]
    for row in range(5):
        assert np.flatnonzero(store.row(row)[1]).tolist() == [len(store.row(row)[0]) - 1]


def test_labels_stay_with_their_texts_when_rows_between_them_go(
    make_spec: MakeSpec, write_rows: WriteRows, tmp_path: Path
) -> None:
    labels = ["no", "maybe", "yes", "no", "no", "yes", "maybe", "yes", "no"]
    rows = [{"text": f"text {0 if n == 4 else n}", "label": label} for n, label in enumerate(labels)]
    clean = dataclasses.replace(CLEAN, broken=Fix.drop, duplicates=Duplicates.exact)
    store = made(make_spec(write_rows(rows), clean=clean, **CLASSES), tmp_path)
    kept = [label for n, label in enumerate(labels) if label != "maybe" and n != 4]
    assert store.targets(np.arange(len(store)))[:, 0].tolist() == [float(CLASSES["labels"].index(one)) for one in kept]
    rejected = [json.loads(line) for line in (store.folder / REJECTED_FILE).read_text().splitlines()]
    assert [entry["step"] for entry in rejected] == ["label", "duplicate", "label"]


def test_a_judged_answer_is_encoded_like_one_to_learn_and_keeps_its_verdict(
    make_spec: MakeSpec, write_rows: WriteRows, tmp_path: Path
) -> None:
    answers = [{"prompt": f"{n} is", "completion": f" answer {n}"} for n in range(5)]
    verdicts: list[Any] = [True, False, 1, 0, "good"]
    rows = [{**row, "label": verdict} for row, verdict in zip(answers, verdicts, strict=True)]
    store = made(make_spec(write_rows(rows), learns=Learns.judged), tmp_path)
    plain = made(make_spec(write_rows(answers, "plain.jsonl")), tmp_path)
    assert store.targets(np.arange(5)).tolist() == [[1.0], [0.0], [1.0], [0.0], [1.0]]
    for row in range(5):
        for found, expected in zip(store.row(row), plain.row(row), strict=True):
            assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("label", ["so so", 2, None, 0.5, [True]])
def test_a_verdict_that_is_none_says_what_would_be(label: Any) -> None:
    with pytest.raises(RowError) as caught:
        to_example({"prompt": "x", "completion": "y", "label": label}, Format.judged)
    assert "neither good nor bad" in str(caught.value)
    assert "true for a good answer" in caught.value.valid


@pytest.mark.parametrize(
    ("learns", "label", "target"),
    [
        (Learns.classes, "b", (1.0,)),
        (Learns.classes, ["b"], (1.0,)),
        (Learns.sets, ["c", "a"], (1.0, 0.0, 1.0)),
        (Learns.sets, [], (0.0, 0.0, 0.0)),
        (Learns.sets, "b", (0.0, 1.0, 0.0)),
        (Learns.values, 2, (2.0,)),
        (Learns.values, -0.5, (-0.5,)),
    ],
)
def test_a_label_becomes_numbers(learns: Learns, label: Any, target: tuple[float, ...]) -> None:
    example = to_example({"text": "x", "label": label}, Format.auto)
    assert learnt(example, learns, ("a", "b", "c")).target == target


@pytest.mark.parametrize(
    ("learns", "label", "words"),
    [
        (Learns.classes, "d", "none of objective.options.labels"),
        (Learns.classes, ["a", "b"], "kind=multi"),
        (Learns.sets, ["a", "d"], "none of objective.options.labels"),
        (Learns.values, "high", "no number"),
        (Learns.values, float("nan"), "no number"),
    ],
)
def test_a_label_that_is_none_says_what_would_be(learns: Learns, label: Any, words: str) -> None:
    with pytest.raises(RowError) as caught:
        learnt(to_example({"text": "x", "label": label}, Format.auto), learns, ("a", "b", "c"))
    assert words in f"{caught.value} {caught.value.remedy}"


@pytest.mark.parametrize("learns", Learns)
def test_rows_of_another_kind_are_refused_with_the_columns_to_name(learns: Learns) -> None:
    rows = {
        Learns.answers: {"text": "x"},
        Learns.pairs: pair(1),
        Learns.judged: {"prompt": "x", "completion": "y", "label": True},
        Learns.classes: {"text": "x", "label": "a"},
        Learns.sets: {"text": "x", "label": ["a"]},
        Learns.values: {"text": "x", "label": 1},
    }
    labelled = (Learns.classes, Learns.sets, Learns.values)
    for kind, row in rows.items():
        if kind is learns or (kind in labelled and learns in labelled):
            continue
        with pytest.raises(RowError) as caught:
            learnt(to_example(row, Format.auto), learns, ("a", "b"))
        assert not isinstance(caught.value, FieldsError)
        assert "columns: {" in caught.value.remedy
