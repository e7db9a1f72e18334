"""`launcher diff RUN RUN`: where two runs differ."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from launcher.cli.options import json_argument, print_json, runs_root
from launcher.errors import ExitCode
from launcher.plain import plain
from launcher.runs.compare import Difference, compare
from launcher.runs.find import find

_MOST_CHARS = 60


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("names", nargs=2, metavar="RUN", help="run id, the beginning of one, a path, or `last`")
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Print what is not the same, section by section."""
    one, other = (find(name, runs_root(options)) for name in options.names)
    found = compare(one, other)
    if options.json:
        print_json({"runs": [one.root.name, other.root.name], **plain(found)})
    else:
        print("\n".join(_page(one.root.name, other.root.name, found)))
    return ExitCode.DONE


def _page(one: str, other: str, found: dict[str, list[Difference]]) -> Iterator[str]:
    yield f"- {one}"
    yield f"+ {other}"
    for section, differences in found.items():
        yield ""
        if not differences:
            yield f"{section}: the same"
            continue
        yield f"{section}"
        width = max(len(difference.name) for difference in differences)
        for difference in differences:
            if difference.one == difference.other:
                yield f"  {difference.name:<{width}}  {difference.one}"
            else:
                yield f"  {difference.name:<{width}}  {_short(difference.one)} → {_short(difference.other)}"


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    first = text.split("\n", 1)[0]
    return text if text == first and len(text) <= _MOST_CHARS else f"{first[:_MOST_CHARS]}…"
