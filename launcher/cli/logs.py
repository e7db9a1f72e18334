"""`launcher logs RUN`: what a run printed."""

from __future__ import annotations

import argparse
import sys
import time

from launcher.cli.options import named_run, run_argument
from launcher.errors import ExitCode
from launcher.rundir import RunDir
from launcher.runs.logs import find_log, follow_log, print_log
from launcher.runs.status import ACTIVE, status

ASK_S = 5.0
"""Between questions to the queue while following."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    run_argument(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on as the log grows, until the run ends")
    parser.add_argument("--rank", type=int, metavar="N", help="rank whose log to show (0)")
    parser.add_argument("--attempt", type=int, metavar="N", help="attempt whose log to show (the latest)")


def run(options: argparse.Namespace) -> ExitCode:
    """Print the log."""
    found = named_run(options)
    if options.follow:
        follow_log(lambda: find_log(found, options.rank, options.attempt), _Ended(found), sys.stdout.buffer, _say)
    else:
        print_log(find_log(found, options.rank, options.attempt), sys.stdout.buffer)
    return ExitCode.DONE


class _Ended:
    """Whether a run has ended, asked seldom enough for a shared queue."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._next = 0.0

    def __call__(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + ASK_S
        return status(self._run).state not in ACTIVE


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
