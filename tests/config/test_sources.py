"""What can stand under data.train."""

import pytest

from launcher.config.sources import Entry, held_out_sets, source_entries, typed, written
from launcher.data.source import Format
from launcher.errors import Problem


def test_data_is_a_path_a_list_or_entries() -> None:
    problems: list[Problem] = []
    assert source_entries("a", "data.train", problems) == [Entry(path="a")]
    assert source_entries(["a", "b"], "data.train", problems) == [Entry(path="a"), Entry(path="b")]
    entry = {"path": "a", "format": "alpaca", "limit": 3}
    assert source_entries([entry], "data.train", problems) == [Entry(path="a", format=Format.alpaca, limit=3)]
    hub = {"hub": "owner/name", "split": "train", "columns": {"prompt": "question"}, "weight": 0.5}
    assert source_entries(hub, "data.train", problems) == [
        Entry(hub="owner/name", split="train", columns={"prompt": "question"}, weight=0.5)
    ]
    assert problems == []


def test_held_out_rows_are_one_set_or_several_with_names() -> None:
    assert held_out_sets(None) == {}
    for one in ("a", ["a", "b"], {"path": "a"}, [{"path": "a", "limit": 3}]):
        assert held_out_sets(one) == {"eval": one}
    named = {"in_domain": "a", "general": {"hub": "b/c"}}
    assert held_out_sets(named) == {"eval_in_domain": "a", "eval_general": {"hub": "b/c"}}
    assert [typed(key) for key in ("train", "eval", "eval_in_domain")] == [
        "data.train",
        "data.eval",
        "data.eval.in_domain",
    ]


def test_an_entry_is_written_without_its_defaults() -> None:
    entry = {"path": "a", "format": "alpaca", "tags": {"domain": "maths"}}
    assert written(Entry(path="a", format=Format.alpaca, tags={"domain": "maths"})) == entry


@pytest.mark.parametrize(
    ("entry", "where"),
    [
        ({"limit": 3}, "data.train.path"),
        ({"path": "a", "fromat": "alpaca"}, "data.train.fromat"),
        ({"path": "a", "format": "alpca"}, "data.train.format"),
        ({"path": "a", "limit": 0}, "data.train.limit"),
        ({"path": "a", "hub": "b/c"}, "data.train.path"),
        ({"path": "a", "split": "train"}, "data.train.split"),
        ({"path": "a", "weight": 0.0}, "data.train.weight"),
        ({"path": "a", "weight": 1, "count": 1}, "data.train"),
        ("", "data.train"),
    ],
)
def test_a_wrong_data_entry_is_named(entry: object, where: str) -> None:
    problems: list[Problem] = []
    source_entries([entry], "data.train", problems)
    assert [problem.where for problem in problems] == [where]


def test_the_entry_at_fault_is_numbered_among_several() -> None:
    problems: list[Problem] = []
    source_entries(["a", 7], "data.train", problems)
    assert [problem.where for problem in problems] == ["data.train[1]"]


def test_either_all_sources_have_a_weight_or_none() -> None:
    problems: list[Problem] = []
    source_entries([{"path": "a", "weight": 0.5}, "b"], "data.train", problems)
    assert [problem.where for problem in problems] == ["data.train"]
