"""Arguments that several verbs share, and what they stand for."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from launcher.rundir import RunDir
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


def run_argument(parser: argparse.ArgumentParser) -> None:
    """RUN."""
    parser.add_argument("name", metavar="RUN", help="run id, the beginning of one, a path, or `last`")


def json_argument(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print one JSON document, and nothing else, on stdout")


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
    root = str(options.runs_root.expanduser().absolute()).replace("\\", "\\\\").replace("'", "\\'")
    return [f"runs_root='{root}'", *options.overrides]


def print_json(document: Any) -> None:
    """One document on stdout."""
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")
