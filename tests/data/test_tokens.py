"""Reading a prepared folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from launcher.data.tokens import TokenStore
from launcher.errors import UserError

MakeStore = Callable[[Sequence[tuple[list[int], list[bool]]]], TokenStore]

ROWS = [([5, 6, 7], [False, False, True]), ([8], [False]), ([9, 10], [False, True])]


def test_rows_come_back_as_they_were_written(make_store: MakeStore) -> None:
    store = make_store(ROWS)
    assert len(store) == 3
    for index, (ids, trained) in enumerate(ROWS):
        got_ids, got_trained = store.row(index)
        assert got_ids.tolist() == ids
        assert got_trained.tolist() == trained


def test_trained_counts_are_those_of_the_rows(make_store: MakeStore) -> None:
    store = make_store(ROWS)
    assert store.trained_counts(np.arange(3)).tolist() == [1, 0, 1]
    assert store.trained_counts(np.array([2, 1, 2])).tolist() == [1, 0, 1]


@pytest.mark.parametrize("index", [-1, 3])
def test_a_row_outside_the_set_is_an_index_error(make_store: MakeStore, index: int) -> None:
    with pytest.raises(IndexError):
        make_store(ROWS).row(index)


def test_a_file_cut_short_is_refused_at_opening(make_store: MakeStore) -> None:
    folder = make_store(ROWS).folder
    path = folder / "tokens-00000.bin"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"tokens-00000.bin.*not as it was prepared"):
        TokenStore(folder)


def test_a_folder_that_is_not_prepared_data_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"meta\.json"):
        TokenStore(tmp_path)
