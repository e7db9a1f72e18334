"""What is said of a prepared data set, and what it looks like."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from launcher.cli.data_page import report_html, report_page, row_page
from launcher.data.inspect import Shown, Stretch
from launcher.data.report import Report, report, set_report
from launcher.data.source import DataSpec, Overlong, Source, TrainOn
from launcher.data.tokens import Meta, SourceMeta
from tests.data.conftest import CLEAN

SPEC = DataSpec(
    sources=(Source(name="rows.jsonl", tags={"domain": "maths"}),),
    held_out=(),
    tokenizer="t",
    chat_template=None,
    train_on=TrainOn.assistant,
    seq_len=512,
    overlong=Overlong.drop,
    clean=CLEAN,
)
"""As it is now; the folder was prepared under other names."""


def meta(**changes: Any) -> Meta:
    values: dict[str, Any] = {
        "key": "k",
        "data_version": 3,
        "rows_in": 1000,
        "rows": 900,
        "truncated": 5,
        "split": 0,
        "untrained_pieces": 0,
        "tokens": 90_000,
        "trained_tokens": 30_000,
        "longest": 480,
        "sources": (
            SourceMeta(name="first.jsonl", rows=900, packs=180, tokens=90_000, rows_in=1000, tags={"domain": "law"}),
        ),
        "files": {},
        "spec": {},
        "versions": {},
        "rejected": {"broken": 40, "duplicate": 60},
        "lengths": {"64": 600, "96": 300},
        "turns": {"2": 900},
    }
    return Meta(**{**values, **changes})


def found(*, packing: bool = False, **changes: Any) -> Report:
    one = set_report("train", "/data/k", meta(**changes), SPEC)
    return report((one,), packing=packing, global_batch_size=64)


def test_an_epoch_is_counted_in_rows_or_in_packed_sequences() -> None:
    assert (found().samples_per_epoch, found().steps_per_epoch) == (900, 15)
    packed = found(packing=True)
    assert (packed.samples_per_epoch, packed.steps_per_epoch, packed.tokens_per_epoch) == (180, 3, 90_000)
    assert packed.sets[0].fill == 90_000 / (180 * 512)


def test_what_is_worth_a_look_is_warned_of() -> None:
    assert found().warnings == ()
    (rejected,) = found(rejected={"broken": 200}).warnings
    assert "200 of 1,000 rows" in rejected.message
    (little,) = found(trained_tokens=10).warnings
    assert "10 of 90,000 tokens" in little.message
    assert [warning.where for warning in found(rows=63).warnings] == ["train.global_batch_size"]


def test_the_page_for_a_screen_adds_up() -> None:
    text = report_page(found(rejected={"broken": 200, "duplicate": 60}))
    for words in (
        "1,000 rows read, 260 rejected, 900 stored",
        "/data/k/rejected.jsonl",
        "30,000 of them trained (33.3%)",
        "180 sequences, 97.66% full",
        "domain=maths",
        "WARNING",
    ):
        assert words in text
    bars = re.findall(r"≥ \d+ +([\d,]+) (█+)", text)
    assert [(count, len(bar)) for count, bar in bars] == [("600", 40), ("300", 20), ("900", 40)]


def test_the_page_with_plots_shows_no_markup_of_the_data() -> None:
    source = replace(SPEC.sources[0], name="<script>alert(1)</script>")
    one = set_report("train", "/data/k", meta(), replace(SPEC, sources=(source,)))
    page = report_html(report((one,), packing=False, global_batch_size=64), "demo")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<rect") == 3


def test_trained_tokens_are_coloured_on_a_terminal_and_bracketed_elsewhere() -> None:
    row = Shown(
        row=0,
        source="rows.jsonl",
        tokens=3,
        trained=1,
        stretches=(Stretch(text="ask", trained=False), Stretch(text="answer", trained=True)),
    )
    assert row_page(row, coloured=False).endswith("\nask⟦answer⟧")
    assert row_page(row, coloured=True).endswith("\nask\x1b[32manswer\x1b[0m")
