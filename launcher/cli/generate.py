"""`launcher data generate RECIPE --teacher PATH --out FILE`: a teacher answers the recipe's training rows, as a job."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from launcher.cli.options import print_json
from launcher.errors import Problem, UserError
from launcher.plain import plain
from launcher.runplan import RunPlan


def generate(plan: RunPlan, options: argparse.Namespace) -> None:
    """Queue the job; with `--follow`, wait for the file."""
    from launcher.runs.generate import Wanted, wait
    from launcher.runs.generate import generate as queue

    missing = [f"--{name}" for name in ("teacher", "out") if getattr(options, name) is None]
    if missing:
        raise UserError(*(Problem(where=name, message="it must be said", remedy="add it") for name in missing))
    queued = queue(
        plan,
        Wanted(
            teacher=options.teacher,
            revision=options.revision,
            out=Path(options.out).expanduser().absolute(),
            answers=1 if options.answers is None else options.answers,
            temperature=0.0 if options.temperature is None else options.temperature,
            max_new_tokens=options.max_new_tokens,
            batch_size=8 if options.batch_size is None else options.batch_size,
            work_dir=Path.cwd(),
        ),
    )
    folder = queued.folder.root
    if not options.follow:
        if options.json:
            print_json({"out": options.out, "folder": str(folder), "job_id": queued.job.job_id})
        else:
            print(f"job     {queued.job.job_id}\nfolder  {folder}\nanswers {options.out}, when all are there")
        return
    with _shown() as report:
        found = wait(queued, report)
    if options.json:
        print_json(plain(found))
        return
    print(f"{found.answers:,} answers to {found.rows:,} rows, in {found.out}")
    for reason, count in found.left_out.items():
        print(f"left out: {count:,} {reason}")
    print(f"next    launcher submit RECIPE objective=sft data.train_on=last data.train={found.out}")


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; else nothing, for the job's log tells."""
    if not sys.stderr.isatty():
        yield lambda rows, total: None
        return
    from tqdm import tqdm

    with tqdm(desc="answering", unit="row", file=sys.stderr) as bar:

        def draw(rows: int, total: int) -> None:
            bar.total = total
            bar.update(rows - bar.n)

        yield draw
