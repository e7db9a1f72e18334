"""What of the data counts when a run's fingerprint is taken, and what it costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launcher import fingerprint
from launcher.data.source import DataSpec, Fix, Hub, Overlong, Source, TrainOn
from launcher.fingerprint import FILES_MARKED, data_digest
from tests.data.conftest import CLEAN


def spec(*sources: Source) -> DataSpec:
    return DataSpec(
        sources=sources,
        held_out=(),
        tokenizer="t",
        chat_template=None,
        train_on=TrainOn.assistant,
        seq_len=8,
        overlong=Overlong.drop,
        clean=CLEAN,
    )


def files(folder: Path, count: int) -> Source:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number:04d}.jsonl").write_text(f"{number}\n")
    return Source(name="rows", paths=tuple(str(path) for path in sorted(folder.iterdir())))


@pytest.mark.parametrize("count", [3, FILES_MARKED, 40])
def test_contents_count_and_places_do_not(tmp_path: Path, count: int) -> None:
    base = data_digest(spec(files(tmp_path / "a", count)))
    assert data_digest(spec(files(tmp_path / "b", count))) == base
    for changed in (0, count - 1):
        source = files(tmp_path / "b", count)
        Path(source.paths[changed]).write_text("x\n")
        assert data_digest(spec(source)) != base


def test_held_out_rows_count_where_they_decide_what_is_trained_on(tmp_path: Path) -> None:
    rows, held_out = files(tmp_path / "rows", 1), files(tmp_path / "held_out", 2)
    keeping = replace(spec(rows), held_out=(held_out,))
    dropping = replace(keeping, clean=replace(CLEAN, contamination=Fix.drop))
    before = data_digest(keeping), data_digest(dropping)
    Path(held_out.paths[0]).write_text("other rows\n")
    assert data_digest(keeping) == before[0]
    assert data_digest(dropping) != before[1]


def test_of_many_files_every_size_and_name_counts_but_few_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = files(tmp_path / "a", 40)
    base = data_digest(spec(source))
    for number in range(40):
        path = Path(source.paths[number])
        before = path.read_text()
        path.write_text(before + "more")
        assert data_digest(spec(source)) != base
        path.write_text(before)
    assert data_digest(spec(replace(source, paths=source.paths[:-1]))) != base
    opened: list[Path] = []
    monkeypatch.setattr(fingerprint, "content_mark", lambda path: opened.append(path) or "")
    data_digest(spec(source))
    assert len(opened) == len(set(opened)) == FILES_MARKED


def test_a_hub_data_set_counts_by_its_names() -> None:
    hub = Hub(name="a/b", config=None, split="train", revision=None)
    digests = [
        data_digest(spec(Source(name="a/b", hub=one)))
        for one in (hub, replace(hub, split="test"), replace(hub, revision="1"), replace(hub, config="c"))
    ]
    assert len(set(digests)) == 4
