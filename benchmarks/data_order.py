"""What it takes to begin far into a run: the first batch of step 0 and of step 1,000,000, in turn, and the memory.

    python -m benchmarks.data_order [--samples 10000000] [--batch 512] [--rounds 100] [--dir DIR]

Three sources, shuffled together and mixed at 0.7, 0.2 and 0.1; the order alone, then a rank's tensors as well. Rows
are read from a prepared folder that is made for it in DIR: 64 zeros each, in sparse files, beside 24 bytes a row of
offsets and packs.
Prints the ratio of the first deciles; 1.00 is no cost. No index of samples is held: resident memory stays where it was.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from launcher.data.feed.batches import Layout
from launcher.data.feed.mixture import Mixture
from launcher.data.feed.order import Order
from launcher.data.feed.samples import Samples
from launcher.data.tokens import DTYPES, META_FILE, SHARDED, FileMark, Meta, SourceMeta, TokenStore, data_file
from launcher.plain import plain
from launcher.publish import publish_json
from launcher.runplan import Batch
from launcher.train.feed import step_data

LATE = 1_000_000
SHARES = [0.7, 0.2, 0.1]
LENGTH, MICRO, RANKS = 64, 8, 8
BLOCK = 1 << 20


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=512, help="samples per optimiser step, a multiple of 64")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--dir", type=Path, default=None, help="for the prepared folder; a temporary one unless told")
    options = parser.parse_args()
    sizes = tuple(round(options.samples * share) for share in SHARES)
    orders = {"shuffled": Order(seed=1, sizes=sizes)}
    orders["mixed"] = Order(seed=1, sizes=sizes, mixture=Mixture.by_weight(SHARES))
    print(f"{options.samples:,} samples, {options.batch} a step, first deciles of {options.rounds} rounds")
    for name, order in orders.items():
        compare(f"order, {name}", partial(order.samples_of_step, global_batch_size=options.batch), options.rounds)
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        samples = Samples(make_store(Path(folder), sizes), packed=False)
        batch = Batch(
            global_batch_size=options.batch,
            micro_batch_size=MICRO,
            accumulation=options.batch // (MICRO * RANKS),
            data_parallel_size=RANKS,
            chosen="for the benchmark",
        )
        layout = Layout(micro_batch_size=MICRO, pad_id=0, flat=False)
        for name, order in orders.items():

            def first_batch(step: int, order: Order = order) -> object:
                return next(step_data(samples, order, layout, batch, rank=0, start=step, stop=step + 1))

            compare(f"first batch, {name}", first_batch, options.rounds)


def compare(what: str, make: Callable[[int], object], rounds: int) -> None:
    """Time `make` at early and at late steps in turn; print the first deciles, their ratio and the memory around them.

    Each round takes a step of its own: how often the shuffle walks depends on the places that it is asked for. Other
    work on the machine makes some rounds slow.
    """
    make(0), make(LATE)
    before = resident_mb()
    times = [(timed(make, step), timed(make, LATE + step)) for step in range(rounds)]
    first, late = (statistics.quantiles(side, n=10)[0] for side in zip(*times, strict=True))
    print(
        f"{what}: step 0 {first * 1e3:.2f} ms, step {LATE:,} {late * 1e3:.2f} ms, ratio {late / first:.2f}; "
        f"resident {before:.1f} MB before, {resident_mb():.1f} MB after"
    )


def timed(make: Callable[[int], object], step: int) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    make(step)
    return time.perf_counter() - started


def resident_mb() -> float:
    """This process's own memory: pages of files that are mapped do not count, the kernel takes them back at will."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def _file(column: str) -> str:
    return data_file(column, 0 if column in SHARDED else None)


def make_store(folder: Path, sizes: tuple[int, ...]) -> TokenStore:
    """A prepared folder with so many rows of `LENGTH` zeros, none trained on."""
    rows = sum(sizes)
    counts = {"tokens": rows * LENGTH, "trained": rows * LENGTH, "trained_counts": rows}
    for column, count in counts.items():
        with (folder / _file(column)).open("wb") as file:
            file.truncate(count * np.dtype(DTYPES[column]).itemsize)
    for column in ("offsets", "pack_rows", "pack_offsets"):
        count, unit = (rows, 1) if column == "pack_rows" else (rows + 1, LENGTH if column == "offsets" else 1)
        with (folder / _file(column)).open("wb") as file:
            for start in range(0, count, BLOCK):
                file.write((np.arange(start, min(start + BLOCK, count), dtype=np.int64) * unit).tobytes())
    names = map(_file, DTYPES)
    marks = {name: FileMark(bytes=(folder / name).stat().st_size, sha256="") for name in names}
    sources = tuple(
        SourceMeta(name=f"s{number}", rows=size, packs=size, tokens=size * LENGTH) for number, size in enumerate(sizes)
    )
    numbers: dict[str, Any] = {field.name: 0 for field in fields(Meta) if field.type == "int"}
    numbers |= {"rows": rows, "rows_in": rows, "tokens": rows * LENGTH}
    publish_json(folder / META_FILE, plain(Meta(key="", sources=sources, files=marks, spec={}, versions={}, **numbers)))
    return TokenStore(folder)


if __name__ == "__main__":
    main()
