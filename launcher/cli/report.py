"""`launcher report RUN [RUN …]`, or `--sweep ID`: one or several runs, or a sweep, as a page."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from launcher.cli.options import json_argument, print_json, runs_root
from launcher.cli.report_page import Shown, page
from launcher.cli.sweep_page import report_sweep
from launcher.errors import ExitCode, Problem, UserError
from launcher.publish import publish_text
from launcher.rundir import RunDir
from launcher.runs.find import find
from launcher.runs.why import why
from launcher.track.curves import read_curves, turns


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument("names", nargs="*", metavar="RUN", help="run id, its beginning, a path, or `last`; or several")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write it (report.html of the first run)")
    parser.add_argument("--sweep", metavar="ID", help="the members of that sweep (or `last`), the best first")
    parser.add_argument("--best", metavar="METRIC", help="of a sweep: by what (eval_loss, else loss)")
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Write the page, and print where."""
    if bool(options.names) == (options.sweep is not None):
        remedy = "write report RUN, or report --sweep ID"
        raise UserError(Problem(where="report", message="what is reported is not clear", remedy=remedy))
    if options.sweep is not None:
        return report_sweep(options)
    found = [find(name, runs_root(options)) for name in options.names]
    shown = [_shown(one) for one in found]
    path = (options.out or found[0].report).expanduser().absolute()
    publish_text(path, page(shown))
    if options.json:
        print_json({"report": str(path), "runs": [_document(one) for one in shown]})
    else:
        print(path)
    return ExitCode.DONE


def _shown(found: RunDir) -> Shown:
    plan = json.loads(found.plan.read_text(encoding="utf-8"))
    curves = read_curves(found)
    story = why(found)
    return Shown(name=found.root.name, story=story, curves=curves, turns=turns(curves), config=plan.get("config", {}))


def _document(shown: Shown) -> dict[str, Any]:
    last = {name: line[-1][1] for name, line in shown.curves.lines.items()}
    turned = {turn.name: turn.step for turn in shown.turns}
    return {"run_id": shown.name, "step": shown.curves.steps, "last": last, "turned": turned}
