"""`launcher export RUN`: a Hugging Face model directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launcher.cli.options import named_run, run_argument
from launcher.errors import ExitCode

AUTO = "auto"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the verb takes."""
    run_argument(parser)
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint to export (the newest)")
    parser.add_argument(
        "--dtype",
        choices=(AUTO, "fp32", "bf16", "fp16"),
        default=AUTO,
        help="of the weights (auto: as they were trained)",
    )
    parser.add_argument("--adapter", action="store_true", help="the adapter alone, as peft loads it (not merged)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write it (export/ in the run directory)")


def run(options: argparse.Namespace) -> ExitCode:
    """Write it, and print where."""
    found = named_run(options)
    # Reads weights, and so imports torch.
    from launcher.checkpoint.export import export

    dtype = None if options.dtype == AUTO else options.dtype
    print(export(found, options.step, dtype, options.out, _say, adapter=options.adapter))
    return ExitCode.DONE


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
