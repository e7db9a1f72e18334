"""`launcher cancel RUN`: stop with a checkpoint."""

from __future__ import annotations

import argparse

from launcher.cli.options import named_run, run_argument
from launcher.errors import ExitCode


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    run_argument(parser)


def run(options: argparse.Namespace) -> ExitCode:
    """Ask, and say what will happen."""
    from launcher.runs.cancel import cancel

    print(cancel(named_run(options)))
    return ExitCode.DONE
