"""A prepared folder is right, the same however it was made, and complete or absent."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.data.formats import to_conversation
from launcher.data.make.prepare import Sizes, prepare
from launcher.data.make.progress import Progress
from launcher.data.render.encode import Encoder
from launcher.data.render.tokenizer import load_tokenizer
from launcher.data.source import DataSpec, Format, Overlong, Source
from launcher.data.tokens import META_FILE, TokenStore
from launcher.decode import decode
from launcher.errors import UserError

WriteRows = Callable[..., Path]
MakeSpec = Callable[..., DataSpec]


def chat_row(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def texts(folder: Path, spec: DataSpec) -> list[str]:
    store, tokenizer = TokenStore(folder), load_tokenizer(spec.tokenizer)
    return [str(tokenizer.decode(store.row(index)[0].tolist())) for index in range(len(store))]


def data_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != META_FILE}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_rows_are_tokenised_as_the_encoder_does(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    rows = [chat_row("What?", "Blue."), {"prompt": "And", "completion": " of grass?"}]
    spec = make_spec(write_rows(rows))
    store = TokenStore(prepare(spec, cache, workers=1))
    encoder = Encoder(load_tokenizer(spec.tokenizer))
    for index, row in enumerate(rows):
        expected = encoder.encode(to_conversation(row, Format.auto))
        ids, trained = store.row(index)
        assert ids.tolist() == expected.ids.tolist()
        assert trained.tolist() == expected.trained.tolist()
    assert texts(store.folder, spec)[0].endswith("<|im_start|>assistant\nBlue.<|im_end|>\n")


def test_the_meta_file_adds_up(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    spec = make_spec(write_rows([chat_row("q" * n, "a") for n in (1, 5, 300, 2)]))
    store = TokenStore(prepare(spec, cache, workers=1))
    lengths = [len(store.row(index)[0]) for index in range(len(store))]
    meta = store.meta
    assert (meta.rows_in, meta.rows, meta.rejected, meta.truncated) == (4, 3, {"overlong": 1}, 0)
    assert sum(meta.lengths.values()) == 3
    assert meta.turns == {"2": 3}
    (source,) = meta.sources
    assert (source.rows_in, source.rows, source.tokens) == (4, 3, meta.tokens)
    assert source.packs == store.packs
    assert source.formats == {"messages": 4}
    assert (meta.tokens, meta.longest) == (sum(lengths), max(lengths))
    assert meta.trained_tokens == store.trained_counts(np.arange(3)).sum()
    assert meta.trained_tokens == sum(int(store.row(index)[1].sum()) for index in range(3))
    assert decode(DataSpec, meta.spec) == spec
    assert set(meta.versions) == {"tokenizers", "transformers"}


def test_position_zero_is_never_counted(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    store = TokenStore(prepare(make_spec(write_rows([{"prompt": "", "completion": "Blue."}])), cache, workers=1))
    ids, trained = store.row(0)
    assert not trained[0]
    assert store.trained_counts(np.array([0])).tolist() == [len(ids) - 1]


def test_workers_and_pieces_do_not_change_a_byte(write_rows: WriteRows, make_spec: MakeSpec, tmp_path: Path) -> None:
    first = write_rows([chat_row(f"question {n}", "yes " * (n % 7 + 1)) for n in range(60)], "1.jsonl")
    second = write_rows([{"prompt": f"p{n}", "completion": "é😀"} for n in range(20)], "2.jsonl")
    spec = make_spec(first, second, overlong=Overlong.truncate_right, seq_len=24)
    alone = prepare(spec, tmp_path / "a", workers=1)
    cut = prepare(spec, tmp_path / "b", workers=1, sizes=Sizes(piece_bytes=97))
    pooled = prepare(spec, tmp_path / "c", workers=2, sizes=Sizes(piece_bytes=1500, small_bytes=0))
    assert alone.name == cut.name == pooled.name
    assert data_files(alone) == data_files(cut) == data_files(pooled)
    assert TokenStore(alone).meta == TokenStore(pooled).meta


def test_rows_keep_the_order_of_sources_and_lines(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    paths = [write_rows([{"prompt": f"{name}{n}", "completion": "."} for n in range(12)], name) for name in "ba"]
    spec = make_spec(*paths)
    expected = [f"{name}{n}.</s>" for name in "ba" for n in range(12)]
    assert texts(prepare(spec, cache, workers=1, sizes=Sizes(piece_bytes=64)), spec) == expected


def test_a_limit_counts_rows_of_its_source(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    path = write_rows([{"prompt": f"a{n}", "completion": "."} for n in range(9)])
    sources = (Source(name="rows", paths=(str(path),), limit=2), Source(name="rows", paths=(str(path),), limit=1))
    spec = make_spec(sources=sources)
    assert texts(prepare(spec, cache, workers=1, sizes=Sizes(piece_bytes=16)), spec) == [
        "a0.</s>",
        "a1.</s>",
        "a0.</s>",
    ]


@pytest.mark.parametrize(("workers", "piece_bytes"), [(1, None), (1, 64), (2, 2048)])
def test_bad_rows_are_named_by_their_true_line_and_nothing_is_left(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path, workers: int, piece_bytes: int | None
) -> None:
    rows: list[Any] = [chat_row(f"question {n}", "a") for n in range(40)]
    rows[4], rows[17], rows[19], rows[20] = "", "{broken", {"messages": []}, {"word": "?"}
    good, bad = write_rows(rows[:4], "good"), write_rows(rows, "bad")
    with pytest.raises(UserError) as caught:
        prepare(make_spec(good, bad), cache, workers=workers, sizes=Sizes(piece_bytes=piece_bytes, small_bytes=0))
    assert [problem.where for problem in caught.value.problems] == [f"{bad}:{line}" for line in (18, 20, 21)]
    assert "not JSON" in caught.value.problems[0].message
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("piece_bytes", [None, 32])
def test_no_more_than_ten_bad_rows_are_listed(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path, piece_bytes: int | None
) -> None:
    path = write_rows(["{broken"] * 50)
    with pytest.raises(UserError) as caught:
        prepare(make_spec(path), cache, workers=1, sizes=Sizes(piece_bytes=piece_bytes))
    assert [problem.where for problem in caught.value.problems] == [f"{path}:{n}" for n in range(1, 11)]


def test_overlong_rows_are_cut_counted_or_refused(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    path = write_rows([chat_row("q", "a" * 90), chat_row("q" * 90, "a"), chat_row("q", "a")])
    store = TokenStore(prepare(make_spec(path, overlong=Overlong.truncate_right), cache, workers=1))
    assert (store.meta.rows, store.meta.truncated, store.meta.rejected) == (2, 1, {"untrained": 1})
    assert len(store.row(0)[0]) == 64 == store.meta.longest
    with pytest.raises(UserError, match=rf"{path}:1: \d+ tokens, more than data.seq_len=64"):
        prepare(make_spec(path, overlong=Overlong.stop), cache, workers=1)


def test_a_set_of_which_nothing_is_left_is_refused(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    path = write_rows([chat_row("q" * 90, "a")])
    with pytest.raises(UserError, match=r"data\.seq_len: none of the 1 rows"):
        prepare(make_spec(path), cache, workers=1)
    with pytest.raises(UserError, match="no rows at all"):
        prepare(make_spec(write_rows(["", " "], "blank")), cache, workers=1)
    assert list(cache.iterdir()) == []


def test_files_that_cannot_be_read_are_all_named(make_spec: MakeSpec, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepare(make_spec(tmp_path / "a", tmp_path / "b", chat_template=str(tmp_path / "c")), cache, workers=1)
    assert [name in str(caught.value) for name in ("/a does not", "/b does not", "/c is not")] == [True] * 3
    assert not cache.exists()


def test_a_tokenizer_that_is_missing_is_told_by_workers_too(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path, tmp_path: Path
) -> None:
    spec = make_spec(write_rows([chat_row("q", "a")]), tokenizer=str(tmp_path / "nowhere"))
    for workers in (1, 2):
        with pytest.raises(UserError, match=r"model\.path: .*no such folder"):
            prepare(spec, cache, workers=workers, sizes=Sizes(small_bytes=0))


def test_what_is_prepared_is_not_prepared_again(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    spec = make_spec(write_rows([chat_row("q", "a")]))
    calls: list[Progress] = []
    first = prepare(spec, cache, workers=1, report=calls.append)
    assert prepare(spec, cache, workers=1, report=calls.append) == first
    assert [(call.bytes_done == call.bytes_total, call.rows) for call in calls] == [(True, 1)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_was_done_before_an_exception_is_not_done_again(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path, error: type[BaseException]
) -> None:
    spec = make_spec(write_rows([chat_row("q", "a")] * 9))
    calls: list[Progress] = []

    def fail(progress: Progress) -> None:
        if progress.rows >= 4:
            raise error

    with pytest.raises(error):
        prepare(spec, cache, workers=1, report=fail, sizes=Sizes(piece_bytes=64))
    parts = {path: path.stat().st_ino for path in cache.glob(".*.work/part-*")}
    assert len(parts) >= 4

    def note(progress: Progress) -> None:
        assert {path: path.stat().st_ino for path in parts} == parts
        calls.append(progress)

    folder = prepare(spec, cache, workers=1, report=note, sizes=Sizes(piece_bytes=64))
    assert list(cache.iterdir()) == [folder]
    assert calls[0].rows >= 4
    assert calls[0].tokens == calls[0].tokens_before > 0
    assert (calls[-1].bytes_done, calls[-1].rows) == (calls[-1].bytes_total, 9)


def test_of_two_at_once_the_first_to_finish_wins(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    spec = make_spec(write_rows([chat_row("q", "a")]))
    winner: list[tuple[Path, int]] = []

    def meanwhile(progress: Progress) -> None:
        folder = prepare(spec, cache, workers=1)
        winner.append((folder, folder.stat().st_ino))

    folder = prepare(spec, cache, workers=1, report=meanwhile)
    assert [(folder, folder.stat().st_ino)] == winner
    assert list(cache.iterdir()) == [folder]


def test_a_source_that_changes_meanwhile_is_refused(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    path = write_rows([chat_row("q", "a")])

    def append(progress: Progress) -> None:
        with path.open("a") as file:
            file.write(json.dumps(chat_row("q2", "a2")) + "\n")

    with pytest.raises(UserError, match="changed while it was read"):
        prepare(make_spec(path), cache, workers=1, report=append)
    assert list(cache.iterdir()) == []


def test_only_the_owner_may_look(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    folder = prepare(make_spec(write_rows([chat_row("q", "a")])), cache, workers=1)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (cache, folder, *folder.iterdir())}
    assert {mode for name, mode in modes.items() if "." in name} == {0o600}
    assert (modes[cache.name], modes[folder.name]) == (0o700, 0o700)
