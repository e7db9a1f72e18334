"""`launcher export RUN`: a Hugging Face model directory."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from launcher.cli.options import named_run, run_argument
from launcher.errors import ExitCode, Problem, UserError

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
    parser.add_argument("--ema", action="store_true", help="the moving average of the weights (optim.ema_decay)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write it (export/ in the run directory)")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="load it with transformers, and compare what it says with what training said at its end",
    )


def run(options: argparse.Namespace) -> ExitCode:
    """Write it, and print where."""
    found = named_run(options)
    # Reads weights, and so imports torch.
    from launcher.checkpoint.export import export
    from launcher.objectives.registry import objective_of
    from launcher.runplan import RunPlan

    dtype = None if options.dtype == AUTO else options.dtype
    if options.verify and (options.adapter or options.ema):
        part = "--adapter writes a part of it" if options.adapter else "--ema writes other weights"
        message = f"--verify compares the whole model with what training said, and {part}"
        remedy = f"export without --{'adapter' if options.adapter else 'ema'} to have it compared"
        raise UserError(Problem(where="--verify", message=message, remedy=remedy))
    path = export(found, options.step, dtype, options.out, _say, adapter=options.adapter, average=options.ema)
    if options.verify:
        from launcher.checkpoint.agreement import require_agreement

        _say(require_agreement(found, path))
    print(path, flush=True)
    head = objective_of(RunPlan.load(found.plan).config).needs.head is not None
    for line in () if options.adapter else next_steps(path, head=head):
        _say(line)
    return ExitCode.DONE


def next_steps(path: Path, *, head: bool) -> Iterator[str]:
    """Lines to type that serve the export, or ask it. vLLM serves language models; a head is asked in Python."""
    if not head:
        yield f"next    vllm serve {shlex.quote(str(path))}"
    task = "text-classification" if head else "text-generation"
    program = f"from transformers import pipeline; print(pipeline({task!r}, model={str(path)!r})('A text'))"
    yield f"{'next' if head else '':<8}python -c {shlex.quote(program)}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
