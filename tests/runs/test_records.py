from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.runs import records
from launcher.runs.records import NewRecords, backwards, last_step, tail


def line(**values: object) -> str:
    return json.dumps(values) + "\n"


def test_each_record_is_read_once_and_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    new = NewRecords(path)
    assert new.read() == []
    path.write_text('{"a": 1}\n{"a"')
    assert new.read() == [{"a": 1}]
    with path.open("a") as file:
        file.write(": 2}\n")
    assert new.read() == [{"a": 2}]
    assert new.read() == []


def test_a_line_that_a_crash_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(line(step=1, loss=1, attempt=1) + '{"step": 2, "lo' + line(step=2, loss=1, attempt=2))
    assert [record["step"] for record in tail(path)] == [1]


def test_the_tail_of_a_long_file_is_short_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step=step, loss=1.0, attempt=1) for step in range(100_000)))
    found = tail(path)
    assert found[-1]["step"] == 99_999
    assert len(found) * 20 < records.TAIL_BYTES
    assert [record["step"] for record in found] == list(range(found[0]["step"], 100_000))


def test_backwards_gives_every_record_once_the_last_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(line(step=step, text="x" * (step % 90)) for step in range(300)) + '{"step": 300')
    for size in (16, 100, 1000, 1 << 20):
        monkeypatch.setattr(records, "TAIL_BYTES", size)
        assert [record["step"] for record in backwards(path)] == list(range(299, -1, -1))
    assert list(backwards(tmp_path / "none")) == []


def test_no_file_has_no_records(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == []
    assert last_step(tmp_path / "none", 1) is None


@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6), evaluated=st.booleans())
def test_the_last_step_of_every_attempt_is_found(lengths: list[int], evaluated: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        text = ""
        for attempt, length in enumerate(lengths, start=1):
            text += "".join(line(step=step, loss=1.0, attempt=attempt) for step in range(1, length + 1))
            if evaluated:
                text += line(step=999, eval_loss=1.0, attempt=attempt)
        path.write_text(text)
        for attempt, length in enumerate(lengths, start=1):
            assert last_step(path, attempt) == (length or None)


def test_a_held_out_loss_is_found_by_attempt_and_step_in_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    text = ""
    for attempt, first in ((1, 1), (2, 2000)):
        for step in range(first, first + 3000):
            text += line(step=step, loss=1.0, attempt=attempt)
            if step % 500 == 0:
                text += line(step=step, eval_loss=step + attempt / 10, attempt=attempt)
    path.write_text(text)
    assert records.held_out_loss(path, 1, 2500) == 2500.1
    assert records.held_out_loss(path, 2, 2500) == 2500.2
    assert records.held_out_loss(path, 1, 2501) is None
    assert records.held_out_loss(tmp_path / "none", 1, 500) is None
