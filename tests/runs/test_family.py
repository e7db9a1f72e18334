from __future__ import annotations

from launcher.runs.family import forest


def test_children_stand_below_their_parents_in_the_order_of_the_runs() -> None:
    runs = ["a", "b", "c", "d", "e", "f"]
    parents = {"c": "a", "d": "c", "e": "a", "f": "elsewhere"}
    assert list(forest(runs, parents)) == [
        ("", "a"),
        ("├─ ", "c"),
        ("│  └─ ", "d"),
        ("└─ ", "e"),
        ("", "b"),
        ("", "f"),
    ]


def test_without_parents_it_is_the_list() -> None:
    assert list(forest(["a", "b"], {})) == [("", "a"), ("", "b")]
