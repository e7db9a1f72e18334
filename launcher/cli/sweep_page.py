"""`launcher report --sweep ID`: which settings were good for a measure, and the curves of the best members."""

from __future__ import annotations

import argparse
import html
from collections.abc import Sequence

from launcher.cli.options import print_json, runs_root
from launcher.cli.report_page import POLICY, STYLE
from launcher.errors import ExitCode, NotFoundError, Problem
from launcher.publish import publish_text
from launcher.rundir import RunDir
from launcher.runs.members import Best, Member, best_first, best_of, find_sweep, metrics_of, read_sweep
from launcher.track.curves import read_curves
from launcher.track.plot import COLOURS, Line, plot
from launcher.track.scatter import Dot, scatter

DEFAULT = ("eval_loss", "loss")
"""Measures to compare by, where none is asked for."""


def report_sweep(options: argparse.Namespace) -> ExitCode:
    """Write the page, and print where."""
    root = runs_root(options)
    folder = find_sweep(options.sweep, root)
    members = [one for one in read_sweep(folder).members if (root / one.run_id / "plan.json").is_file()]
    runs = [RunDir(root / member.run_id) for member in members]
    metric = options.best or next((name for name in DEFAULT if name in metrics_of(runs)), DEFAULT[0])
    best = [best_of(run, metric) for run in runs]
    order = [place for place in best_first(best, metric) if best[place] is not None]
    if not order:
        message = f"no member has measured {metric!r} yet"
        raise NotFoundError(Problem(where="--best", message=message, valid=", ".join(metrics_of(runs))))
    ranked = [(members[place], runs[place], value) for place in order if (value := best[place]) is not None]
    path = (options.out or folder.report).expanduser().absolute()
    publish_text(path, _page(folder.root.name, metric, ranked, len(members)))
    if options.json:
        found = [{"run_id": member.run_id, "value": value.value, "step": value.step} for member, _, value in ranked]
        print_json({"report": str(path), "metric": metric, "runs": found})
    else:
        print(path)
    return ExitCode.DONE


def _page(name: str, metric: str, ranked: Sequence[tuple[Member, RunDir, Best]], count: int) -> str:
    keys = dict.fromkeys(text.partition("=")[0] for member, _, _ in ranked for text in member.overrides)
    settings = "".join(f"<h3>{_text(key)}</h3>{scatter(_dots(ranked, key), key)}" for key in keys)
    lines = [
        Line(label=" ".join(member.overrides), points=read_curves(run).lines.get(metric, []), colour=colour)
        for colour, (member, run, _) in enumerate(ranked[: len(COLOURS)])
    ]
    rows = "".join(
        f'<tr><td>{_text(" ".join(member.overrides))}</td><td class="n">{value.value:.6g}</td>'
        f'<td class="n">{value.step:,}</td><td>{_text(member.run_id)}</td></tr>'
        for member, _, value in ranked
    )
    title = _text(f"{name}: {metric}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{POLICY}"><title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>'
        f"<p>{len(ranked):,} of {count:,} members have measured it.</p><h2>By setting</h2>{settings}"
        f"<h2>Curves of the best</h2>{plot(lines)}<h2>Members, the best first</h2>"
        f"<table><tr><th>overrides</th><th>{_text(metric)}</th><th>at step</th><th>run</th></tr>{rows}"
        "</table></body></html>\n"
    )


def _dots(ranked: Sequence[tuple[Member, RunDir, Best]], key: str) -> list[Dot]:
    found = []
    for member, _, value in ranked:
        typed = [text.partition("=")[2] for text in member.overrides if text.partition("=")[0] == key]
        label = f"{' '.join(member.overrides)}: {value.value:.6g}"
        found += [Dot(across=one, up=value.value, label=label) for one in typed]
    return found


def _text(value: str) -> str:
    return html.escape(value)
