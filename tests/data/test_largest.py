"""What a teacher thought is stored in parts, each of them whole or not there, and read a sample at a time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from launcher.data.feed.largest import PART_SAMPLES, LargestStore
from launcher.data.feed.samples import Samples
from launcher.data.tokens import AnyArray
from tests.data.conftest import MakeStore

ROWS = 2 * PART_SAMPLES + 5


def samples_of(make_store: MakeStore, *, packed: bool) -> Samples:
    rows = [([1 + n % 9, 2, 3, 4][: 2 + n % 3], [n % 2 == 0, *[True] * (1 + n % 3)]) for n in range(ROWS)]
    return Samples(make_store(rows, seq_len=6), packed=packed)


def records_of(store: LargestStore, samples: Samples, part: int) -> AnyArray:
    """As many as the part has, each of which can be told from all others."""
    before = np.arange(store.samples_of(part).start, dtype=np.int64)
    first = int(samples.trained_counts(before).sum())
    count = int(samples.trained_counts(np.array(store.samples_of(part), dtype=np.int64)).sum())
    made = np.zeros(count, dtype=store.type)
    made["ids"] = np.arange(first, first + count)[:, None]
    made["logps"][:, -1] = -math.inf
    return made


@pytest.mark.parametrize("packed", [False, True])
def test_a_samples_records_are_those_of_its_trained_tokens(make_store: MakeStore, tmp_path: Path, packed: bool) -> None:
    samples = samples_of(make_store, packed=packed)
    store = LargestStore(tmp_path / "told", samples, k=2)
    assert store.missing() == list(range(math.ceil(len(samples) / PART_SAMPLES)))
    for part in reversed(range(store.parts)):
        with store.writing(part) as write:
            made = records_of(store, samples, part)
            write(made[:7])
            write(made[7:])
    assert store.missing() == []
    every = np.arange(len(samples), dtype=np.int64)
    ends = np.cumsum(samples.trained_counts(every))
    for number in (0, PART_SAMPLES - 1, PART_SAMPLES, len(samples) - 1):
        mine = store.read([number])["ids"][:, 1].tolist()
        assert mine == list(range(int(ends[number] - samples.trained_counts(every)[number]), int(ends[number])))
    both = store.read([PART_SAMPLES, 3])["ids"][:, 0].tolist()
    assert both == [*store.read([PART_SAMPLES])["ids"][:, 0], *store.read([3])["ids"][:, 0]]
    assert store.read([]).shape == (0,)
    assert (tmp_path / "told").stat().st_mode & 0o77 == 0


def test_a_part_that_is_not_whole_is_not_there(make_store: MakeStore, tmp_path: Path) -> None:
    samples = samples_of(make_store, packed=False)
    store = LargestStore(tmp_path / "told", samples, k=2)
    store.missing()
    with store.writing(1) as write:
        write(records_of(store, samples, 1)[:-1])
    assert list((tmp_path / "told").iterdir()) == []
    with store.writing(1) as write:
        write(records_of(store, samples, 1))
    assert store.missing() == [0, 2]
    (only,) = (tmp_path / "told").iterdir()
    (tmp_path / "told" / ".part-000000.bin.somewhere.1.tmp").write_text("left by one that died")
    only.write_bytes(only.read_bytes()[:-1])
    assert store.missing() == [0, 1, 2]
    assert list((tmp_path / "told").iterdir()) == [only]
