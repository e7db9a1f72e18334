"""What the training loop costs on top of bare DeepSpeed: both in one run, in turn, on the same batches.

    python -m benchmarks.loop_overhead [--ranks 2] [--steps 20] [--blocks 4] [k=v…]

The bare side is forward, backward, step, with batches already in memory. The loop adds data from disk, seeding, the
learning rate, agreeing on a stop, the metrics file. Prints the ratio of the mean step times; 1.00 is no cost.
Needs the demo's data (`make setup`, or LAUNCHER_DEMO_DATA).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.alone import join, own_plan, start
from launcher.node.stop import StopFlag
from launcher.node.watchdog import Watchdog
from launcher.runplan import RunPlan


def main() -> None:
    """Plan, prepare, start the ranks and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20, help="steps per block")
    parser.add_argument("--blocks", type=int, default=4, help="blocks of each kind")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    plan = own_plan()
    if plan is not None:
        measure(plan, options.steps, options.blocks)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(start(Path(folder), options.ranks, options.overrides))


def measure(plan: RunPlan, steps: int, blocks: int) -> None:
    """One rank: alternate blocks of the bare loop and of ours."""
    ranks, device = join(plan)
    import torch
    import torch.distributed as dist

    from launcher.data.feed.prefetch import prefetch
    from launcher.data.feed.samples import Samples
    from launcher.data.tokens import TokenStore
    from launcher.objectives.registry import load
    from launcher.train.early import EarlyStop
    from launcher.train.engine import build_engine
    from launcher.train.feed import StepData, layout_of, order_of, step_data
    from launcher.train.guard import LossGuard
    from launcher.train.loop import Training, run_loop
    from launcher.train.metrics import MetricsWriter

    engine, objective = build_engine(plan, device, None), load("sft")
    samples = Samples(TokenStore(Path(os.environ["LAUNCHER_TRAIN_TOKENS"])), packed=plan.config.data.packing)
    order, layout = order_of(plan.train_data, samples, 1), layout_of(plan.config, plan.batch)
    metrics = MetricsWriter(
        Path(plan.data_cache).parent / "metrics.jsonl" if ranks.rank == 0 else None,
        attempt=1,
        tokens=0,
        flops_per_token=1.0,
        world_size=ranks.world_size,
        device=device,
    )
    training = Training(
        engine=engine,
        objective=objective,
        data=prefetch(iter(())),
        device=device,
        learning_rate=lambda step: 1e-4,
        evaluate=lambda step: None,
        warn=lambda step, reason: None,
        saver=_NoSaver(),  # type: ignore[arg-type]
        metrics=metrics,
        guard=LossGuard(plan.config.guard, []),
        stop=StopFlag(),
        watchdog=Watchdog(plan.config.watchdog, Path(plan.data_cache).parent / f"{ranks.rank}.stacks"),
        seed=1,
        start=1,
        total_steps=10**9,
        stop_at=0,
        unit=1,
        eval_every=None,
        save_every=None,
        early=EarlyStop("eval_loss", None, {}),
        save_with_evaluation=False,
        evaluates=False,
        owes_evaluation=False,
    )

    def feed(first: int) -> Iterator[StepData]:
        return step_data(samples, order, layout, plan.batch, rank=ranks.rank, start=first, stop=first + steps)

    def now() -> float:
        dist.barrier()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    def bare(first: int) -> float:
        data = list(feed(first))
        started = now()
        for step in data:
            for batch in step.batches:
                engine.backward(objective.score(engine, batch.to(device)).loss_sum / step.trained)
                engine.step()
        return now() - started

    def ours(first: int) -> float:
        started = now()
        with prefetch(feed(first)) as data:
            run_loop(replace(training, data=data, stop_at=first + steps))
        return now() - started

    bare(0)
    times = [(bare(block * steps), ours(block * steps)) for block in range(blocks)]
    if ranks.rank == 0:
        bare_s, ours_s = (sum(side) / blocks / steps for side in zip(*times, strict=True))
        print(
            f"bare DeepSpeed {bare_s * 1e3:.1f} ms a step, this loop {ours_s * 1e3:.1f} ms, ratio {ours_s / bare_s:.3f}"
        )
        print("block by block: " + ", ".join(f"{ours_s / bare_s:.3f}" for bare_s, ours_s in times))
    sys.stdout.flush()
    os._exit(0)


class _NoSaver:
    """Checkpoints are not what is measured."""

    def save_all(self, position: object, *, wait: bool) -> None:
        """Nothing."""


if __name__ == "__main__":
    main()
