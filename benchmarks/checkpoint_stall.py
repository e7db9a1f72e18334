"""How long training waits for a checkpoint: synchronous and asynchronous saves in one run, in turn.

    python -m benchmarks.checkpoint_stall [--ranks 2] [--rounds 4] [--gb 2.2] [--dir DIR] [k=v…]

The model is almost all embedding: gigabytes of states, little to compute. In every round some steps run undisturbed,
then one save is waited for, then one is written while steps go on. Prints, for each kind, how long the loop waited
(the slowest rank counts), and what the write took from the steps beside it. DIR is where checkpoints go.
Needs the demo's data (`make setup`, or LAUNCHER_DEMO_DATA).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.alone import join, own_plan, start, stepper
from launcher.node.ranks import Ranks
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

WIDTH = 256
BYTES_PER_PARAMETER = 12
"""fp32 weights and Adam's two moments, as ZeRO-3 writes them."""
QUIET_STEPS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Seconds, of the slowest rank."""

    quiet_s: float
    """A step with nothing beside it."""
    synchronous_s: float
    """Stall of a save that is waited for."""
    asynchronous_s: float
    """Stall of a save that is not."""
    beside: list[float]
    """Steps that began while that one was being written."""
    written_s: float
    """From its beginning to its commit."""


def main() -> None:
    """Plan, prepare, start the ranks and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--gb", type=float, default=2.2, help="size of a checkpoint, over all ranks")
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    plan = own_plan()
    if plan is not None:
        measure(plan, options.rounds)
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        folder = Path(name)
        sys.exit(start(folder, options.ranks, [*settings(folder, options.ranks, options.gb), *options.overrides]))


def settings(folder: Path, ranks: int, gb: float) -> list[str]:
    """Overrides of a run whose model has states of that size."""
    demo = Path(os.environ.get("LAUNCHER_DEMO_DATA", "demo_data"))
    shutil.copytree(demo / "model", folder / "model")
    config = json.loads((folder / "model" / "config.json").read_text())
    vocabulary = int(gb * 1e9 / BYTES_PER_PARAMETER / WIDTH / 2)
    config |= {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "vocab_size": vocabulary}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": WIDTH // 4, "tie_word_embeddings": False}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    batch = [
        f"train.global_batch_size={ranks}",
        "train.micro_batch_size=1",
        "data.seq_len=32",
        "data.overlong=truncate_right",
    ]
    return [
        f"model.path={folder}/model",
        "zero=zero3",
        "checkpoint.keep_last=1",
        *batch,
    ]


def measure(plan: RunPlan, rounds: int) -> None:
    """One rank."""
    ranks, device = join(plan)
    from launcher.checkpoint.save import Position
    from launcher.train.engine import build_engine, build_saver

    engine = build_engine(plan, device, None)
    run = RunDir(Path(plan.run_dir))
    saver = build_saver(plan, run, engine, ranks, data="benchmark")
    step = stepper(plan, engine, ranks, device)
    numbers = itertools.count(1)

    def save(*, wait: bool) -> None:
        saver.save_all(Position(step=next(numbers), total_steps=10**6, tokens=0), wait=wait)

    step()
    found = [one_round(step, save, saver, run) for _ in range(rounds)]
    if ranks.rank == 0:
        report(found, ranks, run, str(device))
    sys.stdout.flush()
    os._exit(0)


def one_round(step: Callable[[], None], save: Callable[..., None], saver: Any, run: RunDir) -> Round:
    """Steps alone, a save that is waited for, and one that is not with steps beside it."""
    quiet = [timed_all(step) for _ in range(QUIET_STEPS)]
    synchronous = timed_all(lambda: save(wait=True))
    asynchronous = timed_all(lambda: save(wait=False))
    beside = []
    while any_all(saver._under_way[1].is_alive()):
        beside.append(timed_all(step))
    assert saver.finish_all() is None
    told = json.loads(run.events.read_text().splitlines()[-1])
    return Round(
        quiet_s=mean(quiet),
        synchronous_s=synchronous,
        asynchronous_s=asynchronous,
        beside=beside,
        written_s=told["seconds"],
    )


def timed_all(work: Callable[[], None]) -> float:
    """Seconds that the slowest rank takes; collective."""
    import torch
    import torch.distributed as dist

    dist.barrier()
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(times, time.perf_counter() - started)
    return float(max(times))


def any_all(mine: bool) -> bool:
    """Whether it holds on any rank; collective."""
    import torch.distributed as dist

    answers: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(answers, mine)
    return any(answers)


def report(rounds: list[Round], ranks: Ranks, run: RunDir, device: str) -> None:
    """Round by round, and the means of all but the first, whose copy also allocates."""
    size = json.loads(run.events.read_text().splitlines()[-1])["size"]
    print(f"{size / 1e9:.2f} GB a checkpoint, {ranks.world_size} ranks on {device}, {os.cpu_count()} cores")
    for number, one in enumerate(rounds, start=1):
        beside = f"{len(one.beside)} steps of {mean(one.beside):.2f} s beside it" if one.beside else "no step beside it"
        print(
            f"round {number}: step {one.quiet_s:.2f} s; synchronous {one.synchronous_s:.2f} s; "
            f"asynchronous {one.asynchronous_s:.3f} s, written in {one.written_s:.2f} s with {beside}"
        )
    later = rounds[1:] or rounds
    synchronous, asynchronous = (
        mean(getattr(one, f"{kind}_s") for one in later) for kind in ("synchronous", "asynchronous")
    )
    extra = mean(sum(one.beside) - len(one.beside) * one.quiet_s for one in later)
    slowdown = mean(mean(one.beside) / one.quiet_s for one in later if one.beside)
    print(f"stall a save, after the first: synchronous {synchronous:.2f} s, asynchronous {asynchronous:.3f} s")
    print(f"ratio of the stalls {asynchronous / synchronous:.3f}")
    print(
        f"steps beside the write take {slowdown:.2f} times as long, {extra:.2f} s a save in all; "
        f"with that the ratio is {(asynchronous + extra) / synchronous:.2f}"
    )


if __name__ == "__main__":
    main()
