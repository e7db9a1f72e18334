"""`launcher data prepare|inspect|check|generate RECIPE [key=value …]`: a run's data, before it is trained on."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

from launcher.cli.generate import generate
from launcher.cli.options import json_argument, print_json, recipe_arguments
from launcher.cli.plan import planned
from launcher.errors import ExitCode, Problem, UserError, closest_first
from launcher.objectives.registry import objective_of
from launcher.runplan import RunPlan

GENERATE = ("teacher", "revision", "out", "answers", "temperature", "max_new_tokens", "batch_size", "follow")
OPTIONS: dict[str, tuple[str, ...]] = {"prepare": (), "inspect": ("n",), "check": ("html",), "generate": GENERATE}
"""What can be done, and the options that it takes."""
SHOWN_ROWS = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    parser.add_argument(
        "action", metavar="|".join(OPTIONS), help="tokenise it, show rows of it, judge it, or have a teacher answer it"
    )
    recipe_arguments(parser)
    parser.add_argument("--n", type=int, metavar="N", help=f"inspect: rows to show ({SHOWN_ROWS})")
    parser.add_argument("--html", type=Path, metavar="FILE", help="check: write the report as a page with plots")
    teaching = parser.add_argument_group("generate: a model answers the training rows, for another to learn from it")
    teaching.add_argument("--teacher", metavar="MODEL", help="a folder, or hub id")
    teaching.add_argument("--revision", metavar="REV", help="of the hub")
    teaching.add_argument("--out", metavar="FILE", help="the file of answers (.jsonl)")
    teaching.add_argument("--answers", type=int, metavar="N", help="to each row (1)")
    teaching.add_argument("--temperature", type=float, metavar="T", help="0 takes the likeliest tokens (0)")
    teaching.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer (as data.seq_len allows)")
    teaching.add_argument("--batch-size", type=int, metavar="N", help="answers at a time (8)")
    teaching.add_argument("--follow", action="store_true", default=None, help="wait for the file")
    json_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Do it; UserError where training on this data would be pointless."""
    _require_sense(options)
    plan = _with_template(planned(options))
    if options.action == "generate":
        generate(plan, options)
        return ExitCode.DONE
    folders = _prepared(plan)
    {"prepare": _prepare, "inspect": _inspect, "check": _check}[options.action](plan, folders, options)
    return ExitCode.DONE


def _require_sense(options: argparse.Namespace) -> None:
    if options.action not in OPTIONS:
        nearest = ", ".join(closest_first(options.action, OPTIONS))
        raise UserError(Problem(where="data", message=f"there is no `data {options.action}`", valid=nearest))
    for name in ("n", "html", *GENERATE):
        if getattr(options, name) is not None and name not in OPTIONS[options.action]:
            owner = next(action for action in OPTIONS if name in OPTIONS[action])
            message = f"`data {options.action}` takes none; `data {owner}` does"
            raise UserError(Problem(where=f"--{name.replace('_', '-')}", message=message))
    if options.n is not None and options.n < 1:
        raise UserError(Problem(where="--n", message=f"{options.n} rows are none to look at", valid="1 or more"))


def _with_template(plan: RunPlan) -> RunPlan:
    """The plan with the user's own chat template: there is no run directory to hold a copy."""
    template = plan.config.data.chat_template
    return replace(
        plan,
        train_data=replace(plan.train_data, chat_template=template),
        eval_data={key: replace(spec, chat_template=template) for key, spec in plan.eval_data.items()},
    )


def _prepared(plan: RunPlan) -> dict[str, Path]:
    from launcher.models.source import resolve
    from launcher.node.data import prepare_data

    model = resolve(plan.config.model, weights=False)
    return prepare_data(plan, model, plan.config.data.workers)


def _prepare(plan: RunPlan, folders: dict[str, Path], options: argparse.Namespace) -> None:
    from launcher.data.tokens import Meta

    metas = {name: Meta.read(folder) for name, folder in folders.items()}
    if options.json:
        told = {name: {"rows": meta.rows, "tokens": meta.tokens} for name, meta in metas.items()}
        print_json({name: {"folder": str(folders[name]), **told[name]} for name in folders})
        return
    for name, meta in metas.items():
        print(f"{name:<5} {meta.rows:,} rows, {meta.tokens:,} tokens, in {folders[name]}")


def _inspect(plan: RunPlan, folders: dict[str, Path], options: argparse.Namespace) -> None:
    from launcher.cli.data_page import row_page
    from launcher.data.inspect import shown
    from launcher.data.render.tokenizer import load_tokenizer
    from launcher.data.tokens import TokenStore
    from launcher.models.source import resolve

    tokenizer = load_tokenizer(str(resolve(plan.config.model, weights=False)), plan.train_data.chat_template)
    rows = list(shown(TokenStore(folders["train"]), tokenizer, options.n or SHOWN_ROWS))
    if options.json:
        print_json([asdict(row) for row in rows])
        return
    coloured = sys.stdout.isatty()
    print("\n\n".join(row_page(row, coloured=coloured) for row in rows))


def _check(plan: RunPlan, folders: dict[str, Path], options: argparse.Namespace) -> None:
    from launcher.cli.data_page import report_html, report_page
    from launcher.data.report import report, set_report, shared_rows
    from launcher.data.tokens import TokenStore
    from launcher.publish import publish_text

    specs = {"train": plan.train_data, **plan.eval_data}
    stores = {name: TokenStore(folder) for name, folder in folders.items()}
    sets = tuple(set_report(name, str(stores[name].folder), stores[name].meta, spec) for name, spec in specs.items())
    found = report(
        sets,
        packing=plan.config.data.packing,
        global_batch_size=plan.batch.global_batch_size // objective_of(plan.config).needs.answers,
        shared=shared_rows(*stores.values()),
    )
    if options.html is not None:
        publish_text(options.html, report_html(found, plan.recipe))
    if options.json:
        print_json(found.to_json())
    else:
        print(report_page(found))
    if options.html is not None:
        print(f"page: {options.html}", file=sys.stderr)
    if found.faults:
        raise UserError(*found.faults)
