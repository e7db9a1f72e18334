"""How rows and reports of data look: on a screen, and as a page with plots."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping

from launcher.data.inspect import Shown
from launcher.data.report import Report, SetReport

BAR = 40
"""Characters of the longest bar."""
TRAINED = ("\x1b[32m", "\x1b[0m")
"""Green on a terminal."""
MARKED = ("⟦", "⟧")
"""Elsewhere."""


def row_page(row: Shown, *, coloured: bool) -> str:
    """One row, the tokens that carry loss coloured or between brackets."""
    before, after = TRAINED if coloured else MARKED
    said = "".join(f"{before}{part.text}{after}" if part.trained else part.text for part in row.stretches)
    return f"── row {row.row:,} of {row.source}: {row.tokens:,} tokens, {row.trained:,} trained ──\n{said}"


def report_page(report: Report) -> str:
    """The report for a screen."""
    blocks = ["\n".join(_set_lines(one)) for one in report.sets]
    blocks.append("\n".join(_epoch_lines(report)))
    blocks += [f"WARNING {warning}" for warning in report.warnings]
    return "\n\n".join(blocks)


def _epoch_lines(report: Report) -> Iterator[str]:
    kind = "packed sequences" if report.packing else "rows"
    yield "Epoch"
    yield f"  {report.samples_per_epoch:,} {kind}, {report.steps_per_epoch:,} optimiser steps"
    yield f"  {report.tokens_per_epoch:,} tokens"


def _set_lines(one: SetReport) -> Iterator[str]:
    yield one.name.capitalize()
    rejected = sum(one.rejected.values())
    parts = f", {one.rows - (one.rows_in - rejected):+,} by splitting" if one.split else ""
    pairs = ", two answers each" if one.examples != one.rows else ""
    yield f"  {one.rows_in:,} rows read, {rejected:,} rejected, {one.examples:,} stored{parts}{pairs}"
    for step, count in one.rejected.items():
        yield f"    {step:<15} {count:>9,}"
    if rejected:
        yield f"    each with its reason in {one.folder}/rejected.jsonl"
    if one.truncated:
        yield f"  {one.truncated:,} rows truncated"
    share = one.trained_tokens / one.tokens if one.tokens else 0
    yield f"  {one.tokens:,} tokens, {one.trained_tokens:,} of them trained ({share:.1%}); longest row {one.longest:,}"
    yield f"  packed: {one.packs:,} sequences, {one.fill:.2%} full"
    for source in one.sources:
        yield f"  {source.name}: {source.rows_in:,} rows read, {source.rows:,} stored, {source.tokens:,} tokens"
        formats = ", ".join(f"{name} {count:,}" for name, count in source.formats.items())
        yield f"    read as {formats or '–'}" + "".join(f"; {key}={value}" for key, value in source.tags.items())
    yield from _bars("tokens", one.lengths)
    yield from _bars("turns", one.turns)


def _bars(name: str, counts: Mapping[str, int]) -> Iterator[str]:
    if not counts:
        return
    yield f"  rows by {name}"
    most = max(counts.values())
    for least, count in counts.items():
        yield f"    {'≥ ' + least:>9} {count:>9,} {'█' * round(BAR * count / most)}"


def report_html(report: Report, recipe: str) -> str:
    """The report as one page that needs nothing else."""
    sections = "".join(_section(one) for one in report.sets)
    warnings = "".join(f"<p class=warning>{html.escape(str(warning))}</p>" for warning in report.warnings)
    faults = "".join(f"<p class=fault>{html.escape(str(fault))}</p>" for fault in report.faults)
    epoch = "<br>".join(html.escape(line.strip()) for line in list(_epoch_lines(report))[1:])
    title = f"Data of {html.escape(recipe)}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1>{faults}{warnings}{sections}<h2>Epoch</h2><p>{epoch}</p></html>\n"
    )


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.1em 1em .1em 0;text-align:left}td.n{text-align:right}"
    ".warning{background:#fff3cd;padding:.5em}.fault{background:#f8d7da;padding:.5em}"
    "svg text{font:12px system-ui,sans-serif}code{background:#f4f4f4}"
)


def _section(one: SetReport) -> str:
    share = one.trained_tokens / one.tokens if one.tokens else 0
    facts = {
        "rows read": f"{one.rows_in:,}",
        **{f"rejected: {step}": f"{count:,}" for step, count in one.rejected.items()},
        "rows stored": f"{one.examples:,}",
        "rows truncated": f"{one.truncated:,}",
        "tokens": f"{one.tokens:,}",
        "trained tokens": f"{one.trained_tokens:,} ({share:.1%})",
        "longest row": f"{one.longest:,}",
        "packed sequences": f"{one.packs:,} ({one.fill:.2%} full)",
    }
    rows = "".join(f"<tr><td>{html.escape(name)}<td class=n>{value}" for name, value in facts.items())
    sources = "".join(
        f"<tr><td>{html.escape(source.name)}<td class=n>{source.rows:,}<td class=n>{source.tokens:,}"
        f"<td>{html.escape(', '.join(f'{key}={value}' for key, value in source.tags.items()))}"
        for source in one.sources
    )
    return (
        f"<h2>{one.name.capitalize()}</h2><table>{rows}</table>"
        f"<h3>Sources</h3><table><tr><th>source<th>rows<th>tokens<th>tags{sources}</table>"
        f"<h3>Rows by tokens</h3>{_plot(one.lengths)}<h3>Rows by turns</h3>{_plot(one.turns)}"
    )


def _plot(counts: Mapping[str, int]) -> str:
    """Horizontal bars."""
    most = max(counts.values(), default=1)
    bars = "".join(
        f'<text x="70" y="{20 * place + 14}" text-anchor="end">≥ {html.escape(least)}</text>'
        f'<rect x="80" y="{20 * place + 3}" width="{500 * count / most:.1f}" height="14" fill="#4c78a8"/>'
        f'<text x="{86 + 500 * count / most:.1f}" y="{20 * place + 14}">{count:,}</text>'
        for place, (least, count) in enumerate(counts.items())
    )
    return f'<svg width="700" height="{20 * len(counts) + 4}" role="img">{bars}</svg>'
