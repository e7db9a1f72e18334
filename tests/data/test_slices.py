"""Values of fields are kept with the rows that stay, and nothing else of a prepared set changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.data.key import cache_key
from launcher.data.make.prepare import Sizes, prepare
from launcher.data.make.sliced import _settled
from launcher.data.slices import MOST_VALUES, NONE, OTHER, read_slices, value_of
from launcher.data.source import DataSpec, Duplicates, Overlong
from launcher.data.tokens import TokenStore
from tests.data.conftest import CLEAN

WriteRows = Callable[..., Path]
MakeSpec = Callable[..., DataSpec]


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {"prompt": f"what is {number}?", "completion": f" {number}", **fields}


def values(folder: Path, spec: DataSpec) -> dict[str, list[str]]:
    """Field: the value of every row stored."""
    slices = read_slices(TokenStore(folder), spec.slices, spec.sources)
    assert slices is not None
    names = slices.values.items()
    return {field: [own[at] for at in slices.ids[:, place]] for place, (field, own) in enumerate(names)}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lang", "de"),
        ("meta.year", "1999"),
        ("a.b", "plain"),
        ("good", "true"),
        ("meta", None),
        ("none", None),
        ("lang.x", None),
    ],
)
def test_a_value_is_what_can_be_said_in_a_word(field: str, value: str | None) -> None:
    row = {"lang": "de", "meta": {"year": 1999}, "a.b": "plain", "good": True, "none": None}
    assert value_of(row, field) == value


def test_every_row_that_stays_has_its_own_values(write_rows: WriteRows, make_spec: MakeSpec, tmp_path: Path) -> None:
    languages = ["de", "fr", None, "de"]
    rows = [
        row(number // 2, **({} if (said := languages[number % 4]) is None else {"lang": said})) for number in range(40)
    ]
    first, second = write_rows(rows, "first.jsonl"), write_rows([row(100), row(101, lang="it")], "second.jsonl")
    spec = make_spec(first, second, clean=replace(CLEAN, duplicates=Duplicates.exact))
    tagged = replace(spec.sources[1], tags={"lang": "en"})
    spec = replace(spec, sources=(spec.sources[0], tagged), slices=("lang", "source"))
    # In one piece and in many.
    for name, sizes in (("whole", Sizes()), ("cut", Sizes(piece_bytes=200, small_bytes=1 << 30))):
        found = values(prepare(spec, tmp_path / name, workers=1, sizes=sizes), spec)
        # The second of two rows with the same words is dropped: of each four, the first and the third stay.
        assert found["lang"] == ["de", NONE] * 10 + ["en", "it"]
        assert found["source"] == ["first.jsonl"] * 20 + ["second.jsonl"] * 2


def test_the_parts_of_a_split_row_have_its_value(write_rows: WriteRows, make_spec: MakeSpec, tmp_path: Path) -> None:
    rows = [{"text": "grass " * 80, "lang": "de"}, {"text": "sky", "lang": "fr"}]
    spec = replace(make_spec(write_rows(rows), overlong=Overlong.split, seq_len=32), slices=("lang",))
    found = values(prepare(spec, tmp_path / "cache", workers=1), spec)["lang"]
    assert len(found) > 3
    assert found == ["de"] * (len(found) - 1) + ["fr"]


def test_rare_values_of_a_field_with_many_are_one(write_rows: WriteRows, make_spec: MakeSpec, tmp_path: Path) -> None:
    rows = [row(number, of="often" if number % 2 else f"v{number:03d}") for number in range(2 * MOST_VALUES + 20)]
    spec = replace(make_spec(write_rows(rows)), slices=("of",))
    found = values(prepare(spec, tmp_path / "cache", workers=1), spec)["of"]
    assert found.count("often") == len(rows) // 2
    assert len(set(found)) == MOST_VALUES + 1
    assert found.count(OTHER) == len(rows) // 2 - (MOST_VALUES - 1)
    assert found[-2] == OTHER


def test_frequency_decides_and_then_the_name() -> None:
    import numpy as np

    ids, shown = _settled(np.array([2, 0, 1, 1, -1], dtype=np.int32), ["b", "c", "a"])
    assert shown == ["c", "a", "b"]
    assert ids.tolist() == [1, 2, 0, 0, -1]


def test_the_key_of_data_without_slices_is_what_it_was_and_each_field_counts(
    write_rows: WriteRows, make_spec: MakeSpec
) -> None:
    spec = make_spec(write_rows([row(1)]))
    keys = [cache_key(replace(spec, slices=slices)) for slices in ((), ("lang",), ("lang", "source"))]
    assert len(set(keys)) == 3
