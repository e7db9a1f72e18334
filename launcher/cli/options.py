"""Arguments that several verbs share, and what they stand for."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.config.then import Stage
from launcher.errors import Problem, UserError, closest_first
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.find import find

RUNS_ROOT = "LAUNCHER_RUNS_ROOT"


def recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """RECIPE, overrides and where to look for them."""
    parser.add_argument("recipe", help="name of a recipe")
    override_arguments(parser)


def override_arguments(parser: argparse.ArgumentParser) -> None:
    """Overrides and where their groups are."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides, in Hydra's grammar")
    parser.add_argument(
        "--config-dir",
        type=Path,
        metavar="DIR",
        help="conf/ and recipes/ of your own, searched before the shipped ones",
    )


def then_arguments(parser: argparse.ArgumentParser) -> None:
    """`--then` and `--tasks`, which are other words for overrides of group `then`."""
    parser.add_argument(
        "--then",
        action="append",
        metavar="STAGE",
        help="what follows the training, as a job of its own: export, or eval (of --tasks), which exports first",
    )
    parser.add_argument("--tasks", metavar="A,B", help="what eval asks: tasks of lm-evaluation-harness, files (.yaml)")


def then_overrides(options: argparse.Namespace) -> list[str]:
    """The overrides that `--then` and `--tasks` stand for; UserError where the two do not go together."""
    stages = [stage for words in options.then or () for stage in words.split(",")]
    tasks = None if options.tasks is None else [task for task in options.tasks.split(",") if task]
    valid = [stage.value for stage in Stage]
    problems = [
        Problem(where="--then", message=f"{stage!r} is no stage", valid=", ".join(closest_first(stage, valid)))
        for stage in stages
        if stage not in valid
    ]
    if tasks is not None and Stage.eval.value not in stages:
        problems.append(Problem(where="--tasks", message="nothing asks them", remedy="add --then eval"))
    if tasks == []:
        problems.append(Problem(where="--tasks", message="it names none", valid="hellaswag,arc_easy, my_task.yaml, …"))
    if problems:
        raise UserError(*problems)
    named = ",".join(quoted(task) for task in tasks or ())
    return [*(["then.export=true"] if stages else []), *([f"then.tasks=[{named}]"] if tasks else [])]


def require_tasks(plan: RunPlan, options: argparse.Namespace) -> None:
    """UserError if `--then eval` was typed and neither the command nor the recipe says what is asked."""
    if any(Stage.eval.value in words.split(",") for words in options.then or ()) and not plan.config.then.tasks:
        raise UserError(Problem(where="--then", message="eval of what?", remedy="add --tasks A,B"))


def quoted(text: str) -> str:
    """A text as Hydra's grammar takes any."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def run_argument(parser: argparse.ArgumentParser) -> None:
    """RUN."""
    parser.add_argument("name", metavar="RUN", help="run id, the beginning of one, a path, or `last`")


def json_argument(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document, and nothing else, on stdout")


def strict_argument(parser: argparse.ArgumentParser) -> None:
    """`--strict`."""
    parser.add_argument("--strict", action="store_true", help="take every warning for an error")


def refuse_if_strict(warnings: Sequence[Problem], options: argparse.Namespace) -> None:
    """UserError with all of them, where `--strict` was typed."""
    if options.strict and warnings:
        raise UserError(*warnings)


def print_warnings(warnings: Sequence[Problem]) -> None:
    """On stderr, where they disturb no answer."""
    for problem in warnings:
        print(f"WARNING {problem}", file=sys.stderr)


def runs_root(options: argparse.Namespace) -> Path:
    """Where runs are: `--runs-root`, the environment, or runs/ here."""
    return Path(options.runs_root or os.environ.get(RUNS_ROOT, "runs")).expanduser().absolute()


def named_run(options: argparse.Namespace) -> RunDir:
    """The run that RUN means."""
    return find(options.name, runs_root(options))


def overrides(options: argparse.Namespace) -> list[str]:
    """The overrides typed, `--runs-root` among them; one typed as an override comes later and wins."""
    if options.runs_root is None:
        return list(options.overrides)
    return [f"runs_root={quoted(str(options.runs_root.expanduser().absolute()))}", *options.overrides]


def print_json(document: Any) -> None:
    """One document on stdout."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")
