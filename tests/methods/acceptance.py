"""`python -m tests.methods.acceptance`: every way to fine-tune, on a private Slurm, held against what it promises.

It learns with three seeds, survives a kill with a curve that is equal bit for bit, and its export loads.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from launcher.publish import publish_text
from tests.faults.cluster import DEVCLUSTER
from tests.methods.methods import METHODS, Method
from tests.methods.trial import SEEDS, Outcome, carry_out, overrides
from tests.objectives.rows import write_teacher
from tests.objectives.sums import on_sums
from tests.workbench import Bench, make_bench, write_model, write_tokenizer

HEAD = ("method", "ZeRO", "measure", "start", "end", "learns", "killed and equal", "export loads in")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(prog="acceptance", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORDS", help="methods whose name has these words"
    )
    parser.add_argument("--workers", type=int, default=2, help="methods side by side")
    parser.add_argument("--table", type=Path, metavar="FILE", help="keep the table there, as it grows")
    options = parser.parse_args(argv)
    folder, began = Path(tempfile.mkdtemp(prefix="methods.")), time.monotonic()
    chosen = [method for method in METHODS if not options.only or any(words in method.name for words in options.only)]
    todo = [(method, stage) for method in chosen for stage in method.stages]
    cluster = folder / "cluster"
    nodes = str(2 * options.workers)
    subprocess.run([DEVCLUSTER, "up", "--nodes", nodes, "--gpus", "8", "--dir", cluster], check=True)
    outcomes: list[Outcome] = []
    try:
        names = {"base": str(write_base(folder / "base")), "teacher": str(write_teacher(folder / "teacher"))}
        sums = warm_up(folder) if any(method.rows is None for method, _ in todo) else []
        with ThreadPoolExecutor(options.workers) as pool:
            running = [pool.submit(tried, folder, method, stage, names, sums) for method, stage in todo]
            for future in as_completed(running):
                outcomes.append(future.result())
                print(
                    f"{len(outcomes)} of {len(todo)}, {time.monotonic() - began:.0f} s: {row(outcomes[-1])}", flush=True
                )
                if options.table is not None:
                    publish_text(options.table, page(outcomes, (time.monotonic() - began) / 60))
    finally:
        subprocess.run([DEVCLUSTER, "down", "--dir", cluster], check=True)
    bad = [outcome for outcome in outcomes if not outcome.good]
    print(f"{table(outcomes)}\n{len(outcomes)} tried, {len(bad)} not as they must be")
    for outcome in bad:
        print(f"{outcome.method.name} at ZeRO {outcome.stage}: {outcome.problem or 'see its row'}")
    if not bad:
        shutil.rmtree(folder)
    return int(bool(bad))


def write_base(folder: Path) -> Path:
    """A model with weights, to put adapters on."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    write_model(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def warm_up(folder: Path) -> list[str]:
    """The overrides of runs on sums, from a model that has learnt their form on this machine."""
    place = folder / "sums"
    place.mkdir()
    return on_sums(make_bench(folder / "warm"), place)


def tried(folder: Path, method: Method, stage: int, names: dict[str, str], sums: Sequence[str]) -> Outcome:
    """The method at that stage, in a folder of its own."""
    # Commas and spaces mean something in an override.
    place = folder / f"{re.sub(r'[^a-z0-9]+', '-', method.name.lower())}-zero{stage}"
    bench: Bench = make_bench(place / "bench", SLURM_CONF=str(folder / "cluster" / "slurm.conf"))
    try:
        words = overrides(method, stage, place, names)
        return carry_out(method, stage, bench, place, [*words, *sums] if method.rows is None else words)
    except Exception as error:
        problem = f"{type(error).__name__}: {str(error)[-2000:]} ({place})"
        nothing = tuple(float("nan") for _ in SEEDS)
        return Outcome(
            method=method, stage=stage, start=nothing, end=nothing, survived=False, loaded="", problem=problem
        )


def page(outcomes: Sequence[Outcome], minutes: float) -> str:
    """What `make methods` leaves in docs/."""
    return (
        "# Every way to fine-tune, tried\n\n"
        "Written by `make methods`: a tiny model, two ranks on two nodes of a private Slurm. Start and end are the "
        "method's own measure on held-out rows, with three seeds; it learns where every seed gets better, by more than "
        "three seeds give by chance once in a hundred times (Student's t). A fourth run, in which a rank is killed "
        "half-way, must be the run that went through: every loss, gradient norm and measure, bit for bit. Its export "
        f"is loaded by transformers, an adapter by peft as well. {minutes:.0f} minutes on two CPU cores.\n\n"
        f"{table(outcomes)}"
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """A row a method and stage, in the order of the methods."""
    names = [method.name for method in METHODS]
    ordered = sorted(outcomes, key=lambda outcome: (names.index(outcome.method.name), outcome.stage))
    return "\n".join([f"| {' | '.join(HEAD)} |", "|---|---|---|---|---|---|---|---|", *map(row, ordered)]) + "\n"


def row(outcome: Outcome) -> str:
    """Its line of the table."""
    start, end = (", ".join(f"{value:.3g}" for value in values) for values in (outcome.start, outcome.end))
    answers = ["yes" if answer else "NO" for answer in (outcome.learnt, outcome.survived)]
    cells = (outcome.method.name, str(outcome.stage), outcome.method.measure, start, end, *answers)
    return f"| {' | '.join(cells)} | {outcome.loaded or 'NOTHING'} |"


if __name__ == "__main__":
    sys.exit(main())
