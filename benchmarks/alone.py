"""Ranks as a run starts them, without a run around them: what the benchmarks of training begin with."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from launcher.data.make.prepare import prepare
from launcher.node.ranks import Ranks, export_for_torch, local_variables, read_ranks
from launcher.node.rendezvous import master_port
from launcher.node.warm_up import own_extensions
from launcher.plan.build import Request, plan_request
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

STEPS_IN_MEMORY = 20


def start(folder: Path, ranks: int, overrides: list[str]) -> int:
    """Plan the recipe `demo` with these overrides, prepare its data, and run the benchmark again on so many ranks.

    These find the plan by `own_plan`. The worst exit status.
    """
    plan = planned(folder, ranks, overrides)
    run = RunDir(Path(plan.run_dir))
    run.checkpoints.mkdir(parents=True)
    run.attempt(1).root.mkdir(parents=True)
    return max(rank.wait() for rank in start_ranks(plan, folder))


def planned(folder: Path, ranks: int, overrides: list[str]) -> RunPlan:
    """The recipe `demo` with these overrides, on so many ranks of this machine."""
    request = Request(
        recipe="demo",
        overrides=[f"cluster.gpus_per_node={ranks}", f"runs_root={folder}", *overrides],
        config_dir=None,
        work_dir=Path.cwd(),
    )
    return plan_request(request)


def start_ranks(plan: RunPlan, folder: Path, **environment: str) -> list[subprocess.Popen[bytes]]:
    """This benchmark again, as each of the plan's ranks; prepares the data in `folder`, unless it is there."""
    plan.write(folder / "plan.json")
    ranks = plan.topology.world_size
    shared = {
        **os.environ,
        "LAUNCHER_ATTEMPT": "1",
        "LAUNCHER_SUBMISSION": "1",
        "BENCHMARK_PLAN": f"{folder}/plan.json",
        "LAUNCHER_MODEL": plan.config.model.path,
        "LAUNCHER_TRAIN_TOKENS": str(prepare(plan.train_data, folder, workers=1)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(master_port(os.getpid())),
        **environment,
    }
    again = [sys.executable, "-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]]  # type: ignore[union-attr]
    return [subprocess.Popen(again, env={**shared, **local_variables(rank, ranks)}) for rank in range(ranks)]


def own_plan() -> RunPlan | None:
    """The plan, in a process that `start` has started; None in the one that a person did."""
    return RunPlan.load(Path(os.environ["BENCHMARK_PLAN"])) if "LAUNCHER_ATTEMPT" in os.environ else None


def join(plan: RunPlan) -> tuple[Ranks, Any]:
    """This rank, and the device that it computes on, as in a run, once it has met the others; collective."""
    ranks = read_ranks()
    export_for_torch(ranks)
    own_extensions()
    from launcher.train.device import choose_device

    device = choose_device(plan.config.cluster.accelerator, ranks)
    warnings.filterwarnings("ignore", category=FutureWarning)
    import deepspeed

    from launcher.train.deterministic import require_one_order

    if plan.config.train.deterministic:
        require_one_order()
    deepspeed.init_distributed(dist_backend="nccl" if device.type == "cuda" else "gloo", verbose=False)
    return ranks, device


def stepper(
    plan: RunPlan, engine: Any, ranks: Ranks, device: Any, after: Callable[[str], None] = lambda _: None
) -> Callable[[], None]:
    """A function that does one micro step, on data in memory, and says after which part it is."""
    from launcher.data.feed.samples import Samples
    from launcher.data.tokens import TokenStore
    from launcher.objectives.registry import load
    from launcher.train.feed import layout_of, order_of, step_data

    objective = load("sft")
    samples = Samples(TokenStore(Path(os.environ["LAUNCHER_TRAIN_TOKENS"])), packed=plan.config.data.packing)
    order, layout = order_of(plan.train_data, samples, 1), layout_of(plan.config, plan.batch)
    data = list(step_data(samples, order, layout, plan.batch, rank=ranks.rank, start=0, stop=STEPS_IN_MEMORY))
    batches: Iterator[Any] = itertools.cycle([batch.to(device) for item in data for batch in item.batches])

    def step() -> None:
        loss = objective.score(engine, next(batches)).loss_sum
        after("forward")
        engine.backward(loss)
        after("backward")
        engine.step()
        after("step")

    return step
