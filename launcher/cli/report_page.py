"""How runs look as a page: one file that needs nothing else, in which nothing of a run is taken for markup."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.runs.why import Chapter, Story
from launcher.runs.words import clock, duration, spaced
from launcher.track.curves import Curves, Turn
from launcher.track.plot import Line, Mark, plot


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One run of a page."""

    name: str
    """Its id."""
    story: Story
    """What became of it."""
    curves: Curves
    """What it measured."""
    turns: Sequence[Turn]
    """Held-out losses that rise while it goes on learning."""
    config: Mapping[str, Any]
    """As it was submitted."""


STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.5em 0}td,th{padding:.15em 1em .15em 0;text-align:left;vertical-align:top}"
    "td.n,th.n{text-align:right}tr+tr td{border-top:1px solid #eee}.warning{background:#fff3cd;padding:.5em}"
    "svg{max-width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#555}"
    ".legend span{margin-right:1.5em;white-space:nowrap}.legend i{display:inline-block;width:2em;margin-right:.4em;"
    "vertical-align:middle}pre{white-space:pre-wrap;margin:0;font:13px/1.4 ui-monospace,monospace}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(runs: Sequence[Shown]) -> str:
    """The whole page; of several runs, their curves one over another."""
    title = _text(" and ".join(one.name for one in runs))
    parts = [_about(runs), *map(_told, runs), _differences(runs), _curves(runs)]
    for one in runs:
        name = f" of {_text(one.name)}" if len(runs) > 1 else ""
        parts += [_section(f"Slices{name}", _slices(one.curves)), _section(f"Answers{name}", _answers(one.curves))]
        parts += [_section(f"Attempts{name}", _attempts(one.story))]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{POLICY}"><title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>'
        f"{''.join(parts)}</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _section(title: str, body: str, level: int = 2) -> str:
    return f"<h{level}>{title}</h{level}>{body}" if body else ""


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Of cells that are markup already; those of numbers to the right."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(cell: str) -> str:
    number = cell.lstrip("+-−").replace(",", "").replace(".", "", 1)
    return f'<td class="n">{cell}</td>' if number.isdigit() else f"<td>{cell}</td>"


def _about(runs: Sequence[Shown]) -> str:
    rows = []
    for one in runs:
        now, config = one.story.status, one.config
        objective, model = config.get("objective", {}), config.get("model", {})
        goodput = "–" if now.goodput is None else f"{now.goodput:.1%}"
        where = f"{now.step:,} of {now.total_steps:,}" if now.total_steps is not None else f"{now.step:,}"
        facts = (one.name, now.state.value, where, f"{one.curves.tokens:,}", now.attempts, goodput)
        rows.append([_text(fact) for fact in (*facts, objective.get("name", ""), model.get("path", ""))])
    heads = ("run", "state", "steps", "trained tokens", "attempts", "goodput", "objective", "model")
    return _table(heads, rows)


def _told(shown: Shown) -> str:
    """What a glance at the curves might miss."""
    return "".join(
        f'<p class="warning">{_text(shown.name)}: {_text(turn.name)} was lowest at step {turn.step:,} '
        f"({turn.best:.4f}). It has risen by {turn.rise:.4f} since, while the training loss fell by "
        f"{turn.fall:.4f}: what is learnt now holds for the training rows only.</p>"
        for turn in shown.turns
    )


def _differences(runs: Sequence[Shown]) -> str:
    if len(runs) < 2:
        return ""
    flat = [dict(_leaves(one.config, "")) for one in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = []
    for key in keys:
        values = [_text(one.get(key, "–")) for one in flat]
        if len(set(values)) > 1:
            rows.append([_text(key), *values])
    body = _table(("key", *(_text(one.name) for one in runs)), rows) if rows else "<p>None.</p>"
    return _section("Differences in the config", body)


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(value)


def _curves(runs: Sequence[Shown]) -> str:
    names = list(dict.fromkeys(name for one in runs for name in one.curves.lines))
    losses = [name for name in names if name == "loss" or (name.startswith("eval_") and name.endswith("_loss"))]
    changes = [name for name in names if name.endswith("_loss_change")]
    gaps = [name for name in names if name.startswith("eval_") and name.endswith("_gap")]
    said = {
        "Loss": losses,
        "Change of held-out losses since the first step: what rises is forgotten": changes,
        "Gap: held-out loss less training loss": gaps,
        "Learning rate": ["lr"],
        "Norm of the gradient": ["grad_norm"],
        "Tokens per second": ["tokens_per_s"],
    }
    used = {name for group in said.values() for name in group}
    hidden = ("perplexity", "tokens", "step_time_s", "mfu", "memory_gb", "epoch")
    further = [name for name in names if name not in used and not name.endswith(hidden)]
    for name in further:
        said.setdefault(_kind(name), []).append(name)
    marks = [
        Mark(step=turn.step, label=f"{one.name}: {turn.name} is lowest at step {turn.step}")
        for one in runs
        for turn in one.turns
    ]
    return "".join(
        _section(_text(title), plot(_lines(runs, group), marks if title in ("Loss",) else ()), level=3)
        for title, group in said.items()
    )


def _kind(name: str) -> str:
    """Held-out measures stand in one plot with the training measure of the same kind."""
    last = name.removeprefix("eval_").split("_")
    return " ".join(last[-2:])


def _lines(runs: Sequence[Shown], names: Sequence[str]) -> list[Line]:
    """One colour for each metric of one run, or for each run of several."""
    lines = []
    for number, one in enumerate(runs):
        for place, name in enumerate(names):
            label = name if len(runs) == 1 else f"{one.name} {name}"
            colour = place if len(runs) == 1 else number
            dashed = len(runs) > 1 and place > 0
            points = one.curves.lines.get(name, [])
            lines.append(Line(label=label, points=points, colour=colour, dashed=dashed))
    return lines


def _slices(curves: Curves) -> str:
    if not curves.slices:
        return ""
    first, last = min(curves.slices), max(curves.slices)
    parts = []
    for key, fields in curves.slices[last].items():
        for field, values in fields.items():
            whole = sum(numbers["examples"] for numbers in values.values()) or 1
            rows = []
            for value, numbers in values.items():
                then = curves.slices[first].get(key, {}).get(field, {}).get(value, {})
                rows.append(_slice(value, numbers, then, whole))
            others = [name for name in next(iter(values.values()), {}) if name not in ("examples", "tokens", "loss")]
            heads = ("value", "examples", "share", "tokens", "loss", f"since step {first:,}", *map(_text, others))
            parts.append(f"<h3>{_text(key)} by {_text(field)}, step {last:,}</h3>{_table(heads, rows)}")
    return "".join(parts)


def _slice(value: str, numbers: Mapping[str, Any], then: Mapping[str, Any], whole: int) -> list[str]:
    """One row: what there is of the value, its loss, how that has changed, and the other measures."""
    share = f"{numbers['examples'] / whole:.1%}"
    counts = [f"{numbers['examples']:,}", share, f"{numbers['tokens']:,}"]
    known = None not in (numbers["loss"], then.get("loss"))
    change = f"{numbers['loss'] - then['loss']:+.4f}" if known else "–"
    others = [_number(mean) for name, mean in numbers.items() if name not in ("examples", "tokens", "loss")]
    return [_text(value), *counts, _number(numbers["loss"]), change, *others]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _answers(curves: Curves) -> str:
    parts = []
    for prompt, answers in curves.answers.items():
        rows = [[f"{step:,}", f"<pre>{_text(answer)}</pre>"] for step, answer in sorted(answers.items())]
        parts.append(f"<h3><pre>{_text(prompt)}</pre></h3>{_table(('step', 'answer'), rows)}")
    return "".join(parts)


def _attempts(story: Story) -> str:
    rows = [_attempt(chapter) for chapter in story.attempts]
    heads = ("attempt", "nodes", "started", "lasted", "steps", "lost", "ended", "why")
    return _table(heads, rows) if rows else ""


def _attempt(chapter: Chapter) -> list[str]:
    steps = "–" if chapter.first_step is None else f"{chapter.first_step:,} to {chapter.last_step or 0:,}"
    started = "–" if chapter.started is None else clock(chapter.started)
    ended = chapter.ended if chapter.failure is None else spaced(chapter.failure.value)
    facts = (chapter.attempt, chapter.nodes or "–", started, duration(chapter.seconds), steps, chapter.lost_steps)
    return [_text(fact) for fact in (*facts, ended, chapter.reason or "")]
