"""`python -m tests.faults.chaos N`: short trainings on a private Slurm, broken in every way there is, and judged.

Owns the order of it all: cluster, undisturbed runs, trials side by side, what is told meanwhile, the table.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from launcher.publish import publish_text, read_records
from tests.faults.cluster import NODES_PER_WORKER, Cluster, TrialError
from tests.faults.deck import TOTAL_STEPS, Ordeal, deal, ordeals
from tests.faults.faults import ASYNCHRONOUS, FAULTS, SAVE_EVERY, Fault, passed
from tests.faults.judge import Verdict, judge, undone, unstruck
from tests.faults.outside import unmount
from tests.faults.table import page, table, totals
from tests.faults.trial import Trial
from tests.faults.verify import Reference, reference
from tests.workbench import Bench, make_bench

SMALL_DISK = "32m"
SLOW = ("watchdog.step_s=600", "watchdog.save_s=600", "watchdog.end_s=600")
QUICK = ("watchdog.step_s=12", "watchdog.save_s=14", "watchdog.end_s=14")

Tell = Callable[[str], None]
T = TypeVar("T")
RUNS_OF_ITS_OWN = 3
"""For a fault that did not fall."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arena:
    """Where the trials take place."""

    folder: Path
    """Everything is below it."""
    cluster: Cluster
    """Slurm."""
    bench: Bench
    """Model and data, shared."""
    seed: int
    """Of everything that is random."""


def overrides(arena: Arena, ordeal: Ordeal, worker: int) -> list[str]:
    """How an ordeal's run is submitted."""
    faults = [blow.fault for blow in ordeal.blows]
    more = [text for fault in faults for text in fault.overrides]
    groups = {text.partition("=")[0] for text in more}
    others = [node for node in range(1, arena.cluster.nodes + 1) if (node - 1) // NODES_PER_WORKER != worker]
    return [
        *(text for text in arena.bench.base if text.partition("=")[0] not in groups),
        *("cluster=devslurm", "cluster.nodes=2", "cluster.gpus_per_node=1"),
        *([f"cluster.exclude='{','.join(f'n{node}' for node in others)}'"] if others else []),
        *(f"train.max_steps={TOTAL_STEPS}", f"checkpoint.every_steps={SAVE_EVERY}"),
        *(f"train.eval_every={2 * SAVE_EVERY}", f"zero.stage={ordeal.stage}"),
        *([f"checkpoint.asynchronous={str(ordeal.asynchronous).lower()}"] if ASYNCHRONOUS else []),
        *("watchdog.start_s=90", *(SLOW if any(fault.patient for fault in faults) else QUICK)),
        *("retry.pause_s=1", "retry.max_without_progress=9", "health.min_free_disk_gb=0"),
        f"data.cache_dir={arena.folder / 'data'}",
        *more,
    ]


def undisturbed(arena: Arena, stage: int, worker: int) -> Reference:
    """The run that every broken one is held against."""
    ordeal = Ordeal(number=-stage, stage=stage, asynchronous=False, blows=())
    folder = arena.folder / f"reference-{stage}"
    trial = Trial(arena.cluster, _bench(arena, ordeal, folder), ordeal, seed=arena.seed, folder=folder)
    trial.carry_out(overrides(arena, ordeal, worker))
    truth = reference(read_records(trial.run.metrics))
    problems = unstruck(trial, truth)
    if problems:
        raise TrialError(f"the undisturbed run at stage {stage}: {problems[0].text} ({trial.run.root})")
    return truth


def _bench(arena: Arena, ordeal: Ordeal, folder: Path) -> Bench:
    environment = {**arena.bench.environment, **arena.cluster.environment}
    for blow in ordeal.blows:
        environment |= blow.fault.environment
    runs = {"LAUNCHER_RUNS_ROOT": str(folder / "runs"), "LAUNCHER_FAULTS": str(folder / "faults")}
    return replace(arena.bench, environment={**environment, **runs})


def endure(arena: Arena, ordeal: Ordeal, truth: Reference, tell: Tell, worker: int, *, again: int = 0) -> list[Verdict]:
    """One run through its faults, and another for those that came too late; what goes wrong stays on disk."""
    folder = arena.folder / f"trial-{ordeal.number:04d}{'-again' * again}"
    trial = Trial(arena.cluster, _bench(arena, ordeal, folder), ordeal, seed=arena.seed, folder=folder)
    failed = None
    with _disk(folder / "runs", small=any(blow.fault.small_disk for blow in ordeal.blows)):
        try:
            trial.carry_out(overrides(arena, ordeal, worker))
        except Exception as error:
            failed = f"{type(error).__name__}: {error}; {arena.cluster.seen()}"
            trial.give_up()
        verdicts = judge(trial, ordeal, truth, failed)
        bad = [verdict for verdict in verdicts if verdict.problems]
        if bad or (failed is not None and not verdicts):
            kept = arena.folder / "kept" / folder.name
            shutil.copytree(folder, kept, symlinks=True)
            repeat = f"repeat with the same arguments and --seed {arena.seed} --run {ordeal.number}"
            for verdict in bad:
                words = "\n".join(f"    {problem.kind}: {problem.text}" for problem in verdict.problems[:3])
                tell(f"  {verdict.name} ({verdict.where}), ZeRO {ordeal.stage}: {kept}\n{words}\n    {repeat}")
            if not verdicts:
                tell(f"  {failed}: {kept}")
    shutil.rmtree(folder, ignore_errors=True)
    missed = tuple(strike.blow for strike in trial.strikes if strike.missed)
    if not missed:
        return verdicts
    if again == RUNS_OF_ITS_OWN:
        never = undone(trial)
        for verdict in never:
            tell(f"  {verdict.name} never fell in {again + 1} runs: {verdict.problems[0].text}")
        return verdicts + never
    return verdicts + endure(arena, replace(ordeal, blows=missed), truth, tell, worker, again=again + 1)


@contextmanager
def _disk(folder: Path, *, small: bool) -> Iterator[None]:
    """Where the runs lie; a file system of its own if it is to be filled."""
    folder.mkdir(parents=True)
    if small:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "chaos", folder], check=True)
    try:
        yield
    finally:
        if small:
            unmount(folder)


def may_mount(folder: Path) -> bool:
    """Whether a small file system can be had here."""
    folder.mkdir(parents=True, exist_ok=True)
    answer = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "chaos", folder], capture_output=True, check=False
    )
    if answer.returncode == 0:
        unmount(folder)
    return answer.returncode == 0


def possible(faults: Sequence[Fault], folder: Path, tell: Tell) -> list[Fault]:
    """Those that can be tried with this version and on this machine."""
    absent = [fault for fault in faults if not passed(fault.point)]
    if absent:
        tell(f"this version does not pass {', '.join(sorted({fault.point.value for fault in absent}))}: left out")
    mounts = may_mount(folder / "probe")
    if not mounts and any(fault.small_disk for fault in faults):
        tell("no file system can be mounted here: a full disk is left out")
    return [fault for fault in faults if fault not in absent and (mounts or not fault.small_disk)]


def _is_meant(fault: Fault, only: Sequence[str]) -> bool:
    return not only or any(words in fault.name for words in only)


def campaign(
    arena: Arena, todo: Sequence[Ordeal], workers: int, tell: Tell, note: Callable[[Sequence[Verdict]], None]
) -> list[Verdict]:
    """All ordeals, some side by side; every verdict. `note` is given those so far after each."""
    free, lock = list(range(workers)), threading.Lock()

    def on_a_worker(work: Callable[[int], T]) -> T:
        with lock:
            worker = free.pop()
        try:
            return work(worker)
        finally:
            with lock:
                free.append(worker)

    verdicts: list[Verdict] = []
    with ThreadPoolExecutor(workers) as pool:
        stages = sorted({ordeal.stage for ordeal in todo})
        made = {stage: pool.submit(on_a_worker, partial(undisturbed, arena, stage)) for stage in stages}
        truths = {stage: future.result() for stage, future in made.items()}
        began = time.monotonic()
        running = [pool.submit(on_a_worker, partial(endure, arena, one, truths[one.stage], tell)) for one in todo]
        total = sum(len(ordeal.blows) for ordeal in todo)
        for future in as_completed(running):
            verdicts += future.result()
            rate = len(verdicts) / (time.monotonic() - began)
            left = (total - len(verdicts)) / max(rate, 1e-9)
            survived = sum(not verdict.problems for verdict in verdicts)
            tell(f"{len(verdicts)} of {total} trials, {survived} survived, {60 * rate:.1f} a minute, {left:.0f} s left")
            note(verdicts)
    return verdicts


@contextmanager
def arena_in(folder: Path, seed: int, workers: int) -> Iterator[Arena]:
    """A cluster, a model and data for the trials."""
    cluster = Cluster(folder / "cluster", workers)
    cluster.up()
    try:
        yield Arena(folder=folder, cluster=cluster, bench=make_bench(folder / "bench"), seed=seed)
    finally:
        cluster.down()


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if anything was not as it must be."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("trials", type=int, nargs="?", default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="runs side by side")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORDS", help="faults whose name has these words"
    )
    parser.add_argument("--run", type=int, metavar="N", help="of the same trials, only the run with this number")
    parser.add_argument("--table", type=Path, metavar="FILE", help="keep the table there, as it grows")
    options = parser.parse_args(argv)

    def tell(words: str) -> None:
        print(words, flush=True)

    folder = Path(tempfile.mkdtemp(prefix="chaos."))
    faults = possible([fault for fault in FAULTS.values() if _is_meant(fault, options.only)], folder, tell)
    todo = ordeals(list(deal(faults, options.trials, options.seed)), options.seed)
    if options.run is not None:
        todo = [ordeal for ordeal in todo if ordeal.number == options.run]
    tell(f"{sum(len(ordeal.blows) for ordeal in todo)} trials in {len(todo)} runs, seed {options.seed}, in {folder}")
    began = time.monotonic()

    def note(verdicts: Sequence[Verdict]) -> None:
        if options.table is not None:
            publish_text(options.table, page(verdicts, options.seed, (time.monotonic() - began) / 60))

    with arena_in(folder, options.seed, options.workers) as arena:
        verdicts = campaign(arena, todo, options.workers, tell, note)
    bad = any(verdict.problems for verdict in verdicts) or not verdicts
    tell(f"{table(verdicts)}\n{totals(verdicts)}")
    if not bad:
        shutil.rmtree(folder)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
