"""`launcher VERB …`: finds the verb, runs it, and turns errors into messages and exit codes.

Imports the one module of the verb that was typed: `launcher status` must not wait for Hydra.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import launcher
from launcher.errors import ExitCode, LauncherError, Problem, UserError, closest_first

VERBS = {
    "plan": "show exactly what a recipe would do; no side effect",
    "submit": "plan, freeze and queue a run",
    "ls": "list the runs",
    "status": "where a run stands",
    "why": "what happened to a run, why, and what to do",
    "logs": "what a run printed",
    "cancel": "stop a run with a checkpoint",
    "resume": "go on from a checkpoint",
    "data": "prepare a recipe's data, look at it, judge it, have a teacher answer it",
    "ckpt": "list, verify or prune a run's checkpoints",
    "report": "one or several runs as a page: curves, held-out losses, answers, failures",
    "sync": "upload to W&B what a run could only write down",
    "diff": "where two runs differ: config, data, code, environment, result",
    "export": "write a Hugging Face model directory",
    "doctor": "check a Slurm cluster; write a first profile of it",
    "eval": "run benchmarks of a run; without --tasks, show one run's results or two runs' side by side",
}
"""Each has a module of its name in this package, with `arguments(parser)` and `run(options) -> ExitCode`."""
INTERRUPTED = 128 + 2
BROKEN_PIPE = 128 + 13


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the process's exit status."""
    # Run directories hold data, configs and weights; nothing in them is for others.
    os.umask(0o077)
    options = argparse.Namespace(debug=False, runs_root=None, json=False)
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv, options)
        finally:
            # Here, where a reader that has gone away is no error; at exit Python would complain of it.
            sys.stdout.flush()
    except LauncherError as error:
        if options.debug:
            traceback.print_exc()
        _tell(str(error), error.problems, options, error.warnings)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if options.debug:
            traceback.print_exc()
        problem = Problem(where=str(error.filename or "launcher"), message=error.strerror or str(error))
        _tell(str(problem), [problem], options)
        return ExitCode.USER_INPUT
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        words = f"this is a bug in launcher: {type(error).__name__}: {error}; run again with --debug"
        _tell(words, [Problem(where="launcher", message=words)], options)
        return ExitCode.BUG


def _run(argv: Sequence[str], options: argparse.Namespace) -> int:
    parser = _parser()
    parser.parse_args(argv, namespace=options)
    if options.verb is None:
        parser.print_help(sys.stderr)
        return ExitCode.USER_INPUT
    if options.verb not in VERBS:
        nearest = closest_first(options.verb, VERBS, limit=len(VERBS))
        raise UserError(Problem(where=options.verb, message="there is no such verb", valid=", ".join(nearest)))
    module = importlib.import_module(f"launcher.cli.{options.verb}")
    verb = argparse.ArgumentParser(prog=f"launcher {options.verb}", description=VERBS[options.verb], allow_abbrev=False)
    module.arguments(verb)
    _global_options(verb, default=argparse.SUPPRESS)
    # Options may stand between overrides, which plain parsing refuses.
    verb.parse_intermixed_args(options.rest, namespace=options)
    code: ExitCode = module.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {name:<8} {words}" for name, words in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="launcher",
        usage="launcher [--debug] [--runs-root DIR] VERB …",
        description=launcher.__doc__,
        epilog=f"verbs:\n{verbs}\n\n`launcher VERB --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"launcher {launcher.__version__}")
    _global_options(parser, default=None)
    parser.add_argument("verb", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _global_options(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument("--debug", action="store_true", default=default or False, help="show the traceback of an error")
    parser.add_argument(
        "--runs-root", type=Path, default=default, metavar="DIR", help="where runs are (LAUNCHER_RUNS_ROOT, or runs/)"
    )


def _tell(
    words: str, problems: Sequence[Problem], options: argparse.Namespace, warnings: Sequence[Problem] = ()
) -> None:
    print(words, file=sys.stderr)
    for problem in warnings:
        print(f"WARNING {problem}", file=sys.stderr)
    if options.json:
        document = {"error": [_plain(problem) for problem in problems]}
        if warnings:
            document["warnings"] = [_plain(problem) for problem in warnings]
        print(json.dumps(document, indent=2))


def _plain(problem: Problem) -> dict[str, str]:
    return {
        "where": problem.where,
        "message": problem.message,
        "valid": problem.valid,
        "remedy": problem.remedy,
    }


if __name__ == "__main__":
    sys.exit(main())
