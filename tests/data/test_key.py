"""What makes two data sets the same, and what does not."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.data.key import cache_key, content_mark
from launcher.data.source import DataSpec, Format, Overlong, Source

WriteRows = Callable[..., Path]


def chat_row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


BLOCK = 64 << 10


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
    variants = [
        spec,
        make_spec(second),
        make_spec(first, second),
        make_spec(second, first),
        dataclasses.replace(spec, sources=(Source(name="rows", paths=(str(first),), format=Format.messages),)),
        dataclasses.replace(spec, sources=(Source(name="rows", paths=(str(first),), limit=1),)),
        dataclasses.replace(spec, seq_len=65),
        dataclasses.replace(spec, overlong=Overlong.truncate_right),
        dataclasses.replace(spec, chat_template=str(template)),
        dataclasses.replace(spec, tokenizer=str(tokenizer)),
        dataclasses.replace(spec, tokenizer="meta-llama/Llama-3.1-8B"),
    ]
    assert len({cache_key(variant) for variant in variants}) == len(variants)
