"""Every rejected row is counted, kept with its place and reason, and only those are."""

from __future__ import annotations

import dataclasses
import json
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launcher.data.clean.fit import Cut, fit
from launcher.data.clean.words import Runs, digest, words
from launcher.data.formats import Conversation, Message, PlainText
from launcher.data.make.prepare import Sizes, prepare
from launcher.data.reject import RowError, Step
from launcher.data.render.encode import Encoded
from launcher.data.render.tokenizer import load_tokenizer
from launcher.data.source import DataSpec, Duplicates, Fix, Overlong
from launcher.data.tokens import TokenStore
from launcher.errors import UserError

WriteRows = Callable[..., Path]
MakeSpec = Callable[..., DataSpec]
SMALL = Sizes(piece_bytes=150, bucket_bytes=64, shard_tokens=200)


def chat_row(question: str, answer: str, system: str = "") -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": [{"role": "system", "content": system}, *turns] if system else turns}


def cleaned(spec: DataSpec, **changes: Any) -> DataSpec:
    return dataclasses.replace(spec, clean=dataclasses.replace(spec.clean, **changes))


def rejected(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rejected.jsonl").read_text(encoding="utf-8").splitlines()]


def places(folder: Path) -> list[tuple[str, str]]:
    """File name and line, and step, of the rejected rows."""
    return [(Path(entry["where"]).name, entry["step"]) for entry in rejected(folder)]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def conversation(row: dict[str, Any]) -> Conversation:
    return Conversation(messages=tuple(Message(**message) for message in row["messages"]))


@pytest.mark.parametrize("sizes", [Sizes(), SMALL])
def test_each_step_takes_its_rows_and_says_where_they_were(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path, sizes: Sizes
) -> None:
    first = [
        "{broken",
        chat_row("good", "one"),
        "",
        chat_row("good", "wrong \ufffd"),
        chat_row("good", " "),
        {"messages": [{"role": "user", "content": "a"}] * 2 + [{"role": "assistant", "content": "b"}]},
        {"prompt": "", "completion": "x"},
        chat_row("q" * 90, "a"),
        chat_row("good", "one"),
    ]
    second = [{"nothing": 1}, chat_row("GOOD", "one"), chat_row("good", "two"), chat_row("  good\n", "one")]
    base = make_spec(write_rows(first, "1"), write_rows(second, "2"))
    drop = dict.fromkeys(("broken", "encoding", "empty", "role_order"), Fix.drop)
    spec = cleaned(base, **drop, min_tokens=3, duplicates=Duplicates.exact)
    store = TokenStore(prepare(spec, cache, workers=1, sizes=sizes))
    assert places(store.folder) == [
        ("1:1", "broken"),
        ("1:4", "encoding"),
        ("1:5", "empty"),
        ("1:6", "role_order"),
        ("1:7", "too_short"),
        ("1:8", "overlong"),
        ("1:9", "duplicate"),
        ("2:1", "broken"),
        ("2:4", "duplicate"),
    ]
    meta, entries = store.meta, rejected(store.folder)
    assert meta.rejected == Counter(entry["step"] for entry in entries)
    assert [source.rejected for source in meta.sources] == [
        Counter(entry["step"] for entry in entries if entry["source"] == name) for name in ("1", "2")
    ]
    assert meta.rows_in == meta.rows + len(entries) == 12
    assert [source.rows for source in meta.sources] == [1, 2]
    # What was taken can be put back.
    lines = {"1": first, "2": second}
    assert [entry["row"] for entry in entries] == [
        lines[entry["source"]][int(entry["where"].rsplit(":", 1)[1]) - 1] for entry in entries
    ]
    assert entries[-1]["reason"].endswith("/1:2")


def test_steps_that_keep_take_nothing(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    rows = [chat_row("good", "wrong \ufffd"), chat_row("good", "wrong \ufffd"), chat_row(" ", "a")]
    store = TokenStore(prepare(make_spec(write_rows(rows)), cache, workers=1))
    assert (store.meta.rows, store.meta.rejected, rejected(store.folder)) == (3, {}, [])


@pytest.mark.parametrize("step", ["encoding", "empty", "role_order"])
def test_steps_that_stop_name_the_rows(write_rows: WriteRows, make_spec: MakeSpec, cache: Path, step: str) -> None:
    order = [{"role": "assistant", "content": "b"}, {"role": "user", "content": "a"}]
    bad = {"encoding": chat_row("q", "\ufffd"), "empty": chat_row("", "a"), "role_order": {"messages": order}}
    path = write_rows([chat_row("good", "one"), bad[step]])
    with pytest.raises(UserError) as caught:
        prepare(cleaned(make_spec(path), **{step: Fix.stop}), cache, workers=1)
    assert [problem.where for problem in caught.value.problems] == [f"{path}:2"]
    assert list(cache.iterdir()) == []


def test_a_source_that_is_mostly_broken_stops_with_its_first_reasons(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path
) -> None:
    good, bad = write_rows([chat_row("q", "a")] * 40, "good"), write_rows([chat_row("q", "a"), *["{no"] * 20], "bad")
    with pytest.raises(UserError, match=r"20 of 21 rows of bad cannot be read") as caught:
        prepare(cleaned(make_spec(good, bad), broken=Fix.drop), cache, workers=1, sizes=SMALL)
    assert [problem.where for problem in caught.value.problems[1:]] == [f"{bad}:{line}" for line in range(2, 11)]
    spec = cleaned(make_spec(good, bad), broken=Fix.drop, most_broken=0.96)
    assert TokenStore(prepare(spec, cache, workers=1)).meta.rejected == {"broken": 20}


def test_of_a_set_of_which_nothing_is_left_the_steps_are_told(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path
) -> None:
    path = write_rows([chat_row("", "a")] * 3)
    with pytest.raises(UserError, match=r"none of the 3 rows of rows\.jsonl is left: empty 3"):
        prepare(cleaned(make_spec(path), empty=Fix.drop), cache, workers=1)


def row(*trained: bool) -> Encoded:
    return Encoded(tokens=array("I", range(len(trained))), loss=bytearray(trained))


def test_overlong_rows_keep_their_beginning_their_end_or_all_of_it(make_spec: MakeSpec) -> None:
    long = row(False, True, True, False, False, False, True, True)

    def ids(overlong: Overlong, tokens: Encoded = long) -> list[list[int]]:
        return [part.ids.tolist() for part in fit(tokens, make_spec(seq_len=3, overlong=overlong)).rows]

    assert ids(Overlong.truncate_right) == [[0, 1, 2]]
    assert ids(Overlong.truncate_left) == [[5, 6, 7]]
    assert ids(Overlong.split) == [[0, 1, 2], [6, 7]]
    # Nothing before it predicts the first token of a part.
    left = fit(row(False, True, True, True), make_spec(seq_len=3, overlong=Overlong.truncate_left))
    assert left.rows[0].trained.tolist() == [False, True, True]
    split = fit(long, make_spec(seq_len=3, overlong=Overlong.split))
    assert (split.cut, split.untrained) == (Cut.split, 1)
    assert [part.trained.tolist() for part in split.rows] == [[False, True, True], [False, True]]
    with pytest.raises(RowError) as caught:
        ids(Overlong.truncate_right, row(False, False, False, True))
    assert caught.value.step is Step.untrained


def test_split_rows_are_stored_whole_and_rejected_as_one(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path
) -> None:
    long = {"prompt": "p", "completion": "abcdefgh " * 30}
    spec = cleaned(
        make_spec(write_rows([long, chat_row("q", "a"), long]), overlong=Overlong.split), duplicates=Duplicates.exact
    )
    store = TokenStore(prepare(spec, cache, workers=1, sizes=SMALL))
    assert (store.meta.split, store.meta.rejected) == (1, {"duplicate": 1})
    assert store.meta.rows > 3
    parts = [store.row(index)[0].tolist() for index in range(store.meta.rows - 1)]
    text = load_tokenizer(spec.tokenizer).decode([token for part in parts for token in part])
    assert text == "p" + long["completion"] + "</s>"


def test_the_same_words_are_told_apart_by_roles_but_not_by_white_space() -> None:
    base = digest(conversation(chat_row("what is it", "café")))
    assert digest(conversation(chat_row(" what  is\nit", "cafe\u0301"))) == base
    assert digest(conversation(chat_row("What is it", "café"))) != base
    turned = [{"role": "assistant", "content": "what is it"}, {"role": "user", "content": "café"}]
    assert digest(conversation({"messages": turned})) != base
    assert digest(Conversation(plain=PlainText(prompt="a b", completion="c"))) != digest(
        Conversation(plain=PlainText(prompt="a", completion="b c"))
    )


def test_white_space_of_any_kind_is_one_and_no_word_passes_for_a_role() -> None:
    def said(*turns: tuple[str, str]) -> bytes:
        return digest(Conversation(messages=tuple(Message(role=role, content=content) for role, content in turns)))

    base = said(("user", "one two"), ("assistant", "three"))
    for blanks in ("  ", "\t", "\r\n", "\x1c \x0b", "\u00a0", "\u2003 \n"):
        assert said(("user", f"{blanks}one{blanks}two"), ("assistant", f"three{blanks}")) == base
    assert said(("user", "one two assistant three")) != base


def test_a_run_of_words_has_one_number_wherever_it_stands() -> None:
    one, other = Runs(words("zero one two three four")), Runs(words("One, two! (three) five one two three"))
    assert set(one.of(3).tolist()) & set(other.of(3).tolist()) == {one.of(3)[1]}
    assert len(one.of(5)) == 1
    assert len(one.of(6)) == 0
    assert words("你好, World") == ["你".encode(), "好".encode(), b"world"]
    assert words("It's 3_a; ÉTÉ") == [b"it", b"s", b"3_a", "été".encode()]
    assert words("It's 3_a; X") == [b"it", b"s", b"3_a", b"x"]


STORY = "the quick brown fox jumps over the lazy dog and runs far away into the deep dark wood at night " * 2


@pytest.mark.parametrize("sizes", [Sizes(), SMALL])
def test_near_duplicates_go_and_name_what_they_repeat(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path, sizes: Sizes
) -> None:
    other = "a completely different tale of ships and stars that sail across an endless sea of glass and fire"
    rows = [
        chat_row("tell", STORY),
        chat_row("tell", other),
        chat_row("tell", STORY + "!"),
        chat_row("tell", STORY + " again"),
        chat_row("tell", STORY[: len(STORY) // 2] + other),
        chat_row("tell", STORY),
        chat_row("one", "1"),
        chat_row("two", "2"),
    ]
    path = write_rows(rows)
    spec = cleaned(make_spec(path, seq_len=512), duplicates=Duplicates.near, similarity=0.8)
    folder = prepare(spec, cache, workers=1, sizes=sizes)
    assert [(entry["where"], entry["step"], entry["reason"].split()[-1]) for entry in rejected(folder)] == [
        (f"{path}:3", "near_duplicate", f"{path}:1"),
        (f"{path}:4", "near_duplicate", f"{path}:1"),
        (f"{path}:6", "duplicate", f"{path}:1"),
    ]


def test_many_near_duplicates_are_judged_by_what_they_have_in_common(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path
) -> None:
    chance = np.random.default_rng(3)
    texts = [" ".join(f"w{number}" for number in chance.integers(0, 5000, 120)) for _ in range(40)]
    # A changed word breaks up to five 5-grams of 117. Two leave 111 of 123 in common; four, apart, 97 of 137, which is
    # enough for many to share a band.
    near = [" ".join(["x", *text.split()[1:60], "y", *text.split()[61:]]) for text in texts]
    far = [" ".join("z" if place % 30 == 15 else word for place, word in enumerate(text.split())) for text in texts]
    path = write_rows([chat_row("tell", text) for text in (*texts, *near, *far)])
    spec = cleaned(make_spec(path, seq_len=2048), duplicates=Duplicates.near, similarity=0.8)
    entries = rejected(prepare(spec, cache, workers=1))
    lines = {int(entry["where"].rsplit(":", 1)[1]): int(entry["reason"].rsplit(":", 1)[1]) for entry in entries}
    assert lines == {40 + number: number for number in range(1, 41)}


HELD_OUT = "natalia sold clips to forty eight of her friends in april and then half as many in may"


def test_rows_with_held_out_words_go(write_rows: WriteRows, make_spec: MakeSpec, cache: Path) -> None:
    held_out = write_rows([chat_row(HELD_OUT, "seventy two"), chat_row("how high is the tower", "very")], "held-out")
    rows = [
        chat_row("Quote: " + HELD_OUT.upper().replace(" ", ", "), "yes"),
        chat_row("natalia sold clips to forty eight of her friends", "in june"),
        # A held-out row of fewer than 13 words counts whole.
        chat_row("Tell: how high is the tower?", "Very!"),
        chat_row("how high is the tower", "not very"),
        chat_row("q", "a", system=HELD_OUT),
    ]
    rows.append(rows[0])
    path = write_rows(rows)
    spec = cleaned(make_spec(path, seq_len=512), contamination=Fix.drop, duplicates=Duplicates.exact)
    spec = dataclasses.replace(spec, held_out=make_spec(held_out).sources)
    folder = prepare(spec, cache, workers=1, sizes=SMALL)
    assert places(folder) == [
        ("rows.jsonl:1", "contaminated"),
        ("rows.jsonl:3", "contaminated"),
        ("rows.jsonl:6", "duplicate"),
    ]
    assert "'how high is the tower very'" in rejected(folder)[1]["reason"]
    assert TokenStore(folder).meta.rejected == {"contaminated": 2, "duplicate": 1}
    with pytest.raises(UserError, match=f"{path}:1: .*held-out"):
        prepare(cleaned(spec, contamination=Fix.stop), cache, workers=1)
    kept = prepare(cleaned(spec, contamination=Fix.keep), cache, workers=1)
    assert places(kept) == [("rows.jsonl:6", "duplicate")]


def test_what_many_held_out_rows_begin_with_is_boilerplate(
    write_rows: WriteRows, make_spec: MakeSpec, cache: Path
) -> None:
    ask = "answer the following question in one word and give no reason for it at all please "
    held_out = write_rows([chat_row(f"{ask} number {n} " + HELD_OUT.replace("a", str(n)), "x") for n in range(11)], "h")
    path = write_rows([chat_row(f"{ask} {n}", "y") for n in range(5)] + [chat_row(HELD_OUT.replace("a", "3"), "z")])
    spec = cleaned(make_spec(path, seq_len=512), contamination=Fix.drop)
    spec = dataclasses.replace(spec, held_out=make_spec(held_out).sources)
    assert places(prepare(spec, cache, workers=1)) == [("rows.jsonl:6", "contaminated")]
