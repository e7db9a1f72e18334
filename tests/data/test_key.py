"""What makes two data sets the same, and what does not."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.data import key as key_module
from launcher.data.key import cache_key, content_mark, find
from launcher.data.make.prepare import prepare
from launcher.data.source import DataSpec, Duplicates, Fix, Format, Hub, Overlong, Source, TrainOn, Unit

WriteRows = Callable[..., Path]


def chat_row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


BLOCK = 64 << 10
HUB = Hub(name="owner/name", config=None, split="train", revision=None)


def test_copies_are_equal_whatever_their_names_and_times(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"x" * 100_000)
    second.write_bytes(b"x" * 100_000)
    os.utime(second, (1, 1))
    assert content_mark(first) == content_mark(second)


@pytest.mark.parametrize("place", [0, 3 * BLOCK + 17, 300 * BLOCK - 1])
def test_changes_at_the_ends_and_within_the_first_four_mebibytes_of_small_files_are_seen(
    tmp_path: Path, place: int
) -> None:
    size = 300 * BLOCK if place in (0, 300 * BLOCK - 1) else 64 * BLOCK
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    before = content_mark(path)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"!")
    assert content_mark(path) != before


def test_an_appended_byte_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(200 * BLOCK))
    before = content_mark(path)
    with path.open("ab") as file:
        file.write(b"\0")
    assert content_mark(path) != before


def test_moving_sources_and_tokenizer_changes_nothing(
    write_rows: WriteRows, make_spec: Callable[..., DataSpec], tmp_path: Path
) -> None:
    path = write_rows([chat_row("q", "a")])
    spec = make_spec(path)
    moved = shutil.copy(path, tmp_path / "elsewhere")
    tokenizer = shutil.copytree(spec.tokenizer, tmp_path / "tokenizer")
    assert cache_key(make_spec(Path(moved), tokenizer=str(tokenizer))) == cache_key(spec)


def test_everything_that_matters_changes_the_key(
    write_rows: WriteRows, make_spec: Callable[..., DataSpec], tmp_path: Path
) -> None:
    first, second = write_rows([chat_row("q", "a")], "1"), write_rows([chat_row("q", "b")], "2")
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages }}")
    spec = make_spec(first)
    tokenizer = Path(shutil.copytree(spec.tokenizer, tmp_path / "tokenizer"))
    (tokenizer / "tokenizer.json").write_text("{}")
    looking = dataclasses.replace(spec.clean, contamination=Fix.drop)
    held_out = make_spec(second).sources
    variants = [
        spec,
        make_spec(second),
        make_spec(first, second),
        make_spec(second, first),
        dataclasses.replace(spec, sources=(Source(name="rows", paths=(str(first),), format=Format.messages),)),
        dataclasses.replace(spec, sources=(Source(name="rows", paths=(str(first),), limit=1),)),
        dataclasses.replace(spec, sources=(Source(name="rows", paths=(str(first),), columns={"a": "b"}),)),
        dataclasses.replace(spec, sources=(Source(name="rows", paths=(str(first),), unit=Unit.file),)),
        dataclasses.replace(spec, sources=(Source(name="rows", hub=HUB),)),
        dataclasses.replace(spec, sources=(Source(name="rows", hub=dataclasses.replace(HUB, split="test")),)),
        dataclasses.replace(spec, train_on=TrainOn.last),
        dataclasses.replace(spec, clean=dataclasses.replace(spec.clean, duplicates=Duplicates.exact)),
        dataclasses.replace(spec, clean=looking, held_out=held_out),
        dataclasses.replace(spec, clean=looking, held_out=make_spec(first).sources),
        dataclasses.replace(spec, seq_len=65),
        dataclasses.replace(spec, overlong=Overlong.truncate_right),
        dataclasses.replace(spec, chat_template=str(template)),
        dataclasses.replace(spec, tokenizer=str(tokenizer)),
        dataclasses.replace(spec, tokenizer="meta-llama/Llama-3.1-8B"),
    ]
    assert len({cache_key(variant) for variant in variants}) == len(variants)


def test_what_does_not_tell_in_tokens_does_not_change_the_key(
    write_rows: WriteRows, make_spec: Callable[..., DataSpec]
) -> None:
    path = write_rows([chat_row("q", "a")])
    spec = make_spec(path)
    source = Source(name="another", paths=(str(path),), weight=0.5, count=3, tags={"kind": "x"})
    assert cache_key(dataclasses.replace(spec, sources=(source,))) == cache_key(spec)
    # Nobody looks at held-out rows unless contamination is on.
    assert cache_key(dataclasses.replace(spec, held_out=(source,))) == cache_key(spec)


def test_prepared_data_is_found_and_other_data_is_not(
    write_rows: WriteRows, make_spec: Callable[..., DataSpec], tmp_path: Path
) -> None:
    spec = make_spec(write_rows([chat_row("q", "a")]))
    assert find(spec, tmp_path / "cache") is None
    folder = prepare(spec, tmp_path / "cache", workers=1)
    assert find(spec, tmp_path / "cache") == folder
    assert find(dataclasses.replace(spec, seq_len=63), tmp_path / "cache") is None
    assert find(make_spec(tmp_path / "nowhere"), tmp_path / "cache") is None


def test_large_sources_are_found_without_being_read_and_not_once_they_are_touched(
    write_rows: WriteRows, make_spec: Callable[..., DataSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_module, "WHOLE_BYTES", 10)
    monkeypatch.setattr(key_module, "PLAN_BYTES", 10)
    path = write_rows([chat_row("q", "a")])
    spec, cache = make_spec(path), tmp_path / "cache"
    assert find(spec, cache) is None
    folder = prepare(spec, cache, workers=1)
    with monkeypatch.context() as unread:
        unread.setattr(key_module, "cache_key", lambda spec: pytest.fail("a large source was read"))
        assert find(spec, cache) == folder
        os.utime(path, ns=(1, 1))
        assert find(spec, cache) is None
    # Read once more, it turns out to be the same.
    assert prepare(spec, cache, workers=1) == folder
    assert find(spec, cache) == folder


def test_asking_whether_data_is_prepared_imports_nothing_heavy() -> None:
    code = "import sys, launcher.data.key; print([m for m in ('transformers', 'torch', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
