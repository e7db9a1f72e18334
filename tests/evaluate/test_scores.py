"""Formulas of answers' scores, against the package that the field uses and numbers worked out by hand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from launcher.evaluate.scores import METRICS, fields_of, normalised, told

CAT, MAT = "The cat sat on the mat.", "A cat was sitting on the mats"


def scored(metric: str, *pairs: tuple[str, str]) -> dict[str, float]:
    return told(metric, [METRICS[metric].score(answer, reference) for answer, reference in pairs])


def test_rouge_counts_common_words_pairs_and_the_longest_common_subsequence() -> None:
    # Of 6 and 7 stemmed words 4 are common (cat, on, the, mat), of 5 and 6 pairs 2 (on the, the mat), in one order.
    found = scored("rouge", (CAT, MAT))
    assert found["rouge_1"] == pytest.approx(8 / 13)
    assert found["rouge_2"] == pytest.approx(4 / 11)
    assert found["rouge_l"] == pytest.approx(8 / 13)
    swapped = scored("rouge", ("on the mat sat the cat", "the cat sat on the mat"))
    assert swapped["rouge_1"] == 1
    assert swapped["rouge_l"] == pytest.approx(0.5)


@given(answer=st.text("ab cd. \n", max_size=40), reference=st.text("ab cd. \n", max_size=40))
def test_rouge_is_that_of_the_package(answer: str, reference: str) -> None:
    theirs = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(reference, answer)
    expected = [theirs[name].fmeasure for name in ("rouge1", "rouge2", "rougeL")]
    assert list(scored("rouge", (answer, reference)).values()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The U.S.  Army,\na theory", "us army theory"),
        ("an-other 3,000", "another 3000"),
        ("  \n", ""),
        ("the", ""),
        ("Äpfel – the end", "äpfel – end"),
    ],
)
def test_texts_are_normalised_as_squad_does_it(text: str, expected: str) -> None:
    assert normalised(text) == expected


@pytest.mark.parametrize(
    ("answer", "reference", "match", "f1"),
    [
        ("The Eiffel Tower.", "eiffel tower", 1, 1),
        ("in the Eiffel Tower", "Eiffel Tower", 0, 0.8),
        ("the the cat cat", "cat dog", 0, 0.5),
        ("one two", "three", 0, 0),
        ("", "three", 0, 0),
        ("the", "", 1, 1),
    ],
)
def test_squads_scores_are_those_worked_out_by_hand(answer: str, reference: str, match: float, f1: float) -> None:
    assert scored("squad", (answer, reference)) == {"exact_match": match, "token_f1": pytest.approx(f1)}


def test_squads_scores_of_a_set_are_means_over_its_answers() -> None:
    found = scored("squad", ("a cat", "cat"), ("cat", "cat dog"), ("x", "y"))
    assert found == {"exact_match": pytest.approx(1 / 3), "token_f1": pytest.approx((1 + 2 / 3) / 3)}


def test_fields_are_counted_over_all_answers() -> None:
    wanted = {"name": "Ada Lovelace", "born": 1815, "tags": ["x", "y"], "home": {"city": "London"}}
    near = {"name": " Ada  Lovelace", "born": 1815.0, "tags": ["y", "z"], "home": {"street": "London"}}
    # Right: name, born, y. Said and wanted: 5 each. The second answer says nothing, and 1 was wanted.
    found = scored("fields", (json.dumps(near), json.dumps(wanted)), ("no idea", '{"a": null}'))
    assert found == {
        "field_precision": pytest.approx(3 / 5),
        "field_recall": pytest.approx(3 / 6),
        "field_f1": pytest.approx(6 / 11),
        "json_valid": 0.5,
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ('{"a": [1, 2, 2]}', '{"a": [2, 1, 2]}', True),
        ('{"a": [1, 2, 2]}', '{"a": [2, 1]}', False),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', True),
        ('{"a": 1}', '{"a": "1"}', False),
        ('{"a": true}', '{"a": 1}', False),
        ('{"a": []}', '{"a": {}}', False),
        ('{"a.b": 1}', '{"a": {"b": 1}}', False),
        ('{"a": [{"b": 1}]}', '{"a": {"b": 1}}', False),
        ('{"a": null}', "{}", False),
        ('{"a": 1e400, "b": NaN}', '{"b": NaN, "a": 1e400}', True),
    ],
)
def test_fields_are_the_same_where_path_and_value_are(one: str, other: str, same: bool) -> None:
    assert (fields_of(one) == fields_of(other)) is same
    assert (scored("fields", (one, other))["field_f1"] == 1) is same


@pytest.mark.parametrize("text", ["", "[1]", '"a"', "{", '{"a": 1} and more', "[" * 100_000, '{"a":' * 900 + "1"])
def test_what_is_no_json_object_has_no_fields(text: str) -> None:
    assert fields_of(text) is None
    assert scored("fields", (text, '{"a": 1}')) == dict.fromkeys(METRICS["fields"].measures, 0.0)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda item: st.lists(item, max_size=3)))
def test_an_object_said_as_it_is_wanted_scores_1(value: object) -> None:
    text = json.dumps({"value": value})
    assert set(scored("fields", (text, text)).values()) == {1.0}


@pytest.mark.parametrize("metric", METRICS)
def test_sums_do_not_depend_on_the_order_of_answers(metric: str) -> None:
    rows = [[0.1 * number + place for place in range(METRICS[metric].columns)] for number in range(50)]
    assert told(metric, rows) == told(metric, rows[::-1])
