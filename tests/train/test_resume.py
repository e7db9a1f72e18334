"""A stopped and resumed run has, bit for bit, the losses of one that went straight through."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.workbench import Bench, held_out, losses, records

pytestmark = pytest.mark.train

SETTINGS = {
    "zero0": ["zero=zero0"],
    "zero1-bf16": ["zero=zero1", "precision=bf16"],
    "zero2-packed": ["zero=zero2", "data.packing=true"],
    "zero3": ["zero=zero3"],
    "zero3-offload-bf16": ["zero=zero3_offload", "precision=bf16", "model.activation_checkpointing=true"],
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_stopped_and_resumed_equals_straight_through(bench: Bench, started: Bench, setting: str) -> None:
    bench = started if setting == "zero3" else bench
    overrides = [*SETTINGS[setting], "train.eval_every=4"]
    straight = bench.train(*overrides)
    stopped = bench.train(*overrides, "train.stop_at=5")
    assert list(losses(stopped)) == [1, 2, 3, 4, 5]
    bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert losses(stopped) == losses(straight)
    assert held_out(stopped) == held_out(straight)
    assert all(record["grad_norm"] > 0 for record in records(stopped) if "grad_norm" in record)
    # Every combination of stage and precision that trains must also come out again.
    bench.run("export", stopped.name)
    assert (stopped / "export" / "model.safetensors").is_file()


def test_cancel_stops_with_a_checkpoint_at_that_step_and_resume_goes_on(started: Bench) -> None:
    bench = started
    overrides = ["train.max_steps=60", "data.eval=null"]
    straight = bench.train(*overrides)
    bench.run("submit", *bench.base, *overrides)
    cancelled = bench.last()
    wait_for_rank(cancelled, after_step=3)
    bench.run("cancel", cancelled.name)
    wait_for_state(bench, "CANCELLED")
    status = json.loads(bench.run("status", cancelled.name, "--json").stdout)
    assert status["last_checkpoint"] == status["step"] == max(losses(cancelled))
    bench.run("resume", cancelled.name, "--follow")
    assert losses(cancelled) == losses(straight)


def wait_for_rank(run: Path, after_step: int, timeout_s: float = 180) -> int:
    """Wait until the run has done so many steps; gives the pid of its last rank."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if (run / "metrics.jsonl").exists() and max(losses(run), default=0) >= after_step:
            ranks = [
                int(folder.name)
                for folder in Path("/proc").iterdir()
                if folder.name.isdigit() and _command(folder).endswith(f"launcher.node.entry\0{run}\0")
            ]
            return max(ranks)
        time.sleep(0.05)
    raise AssertionError(f"{run} did not reach step {after_step}")


def _command(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_text()
    except OSError:
        return ""


def wait_for_state(bench: Bench, state: str, timeout_s: float = 180) -> None:
    """Wait until the newest run is in `state`."""
    deadline = time.monotonic() + timeout_s
    seen = ""
    while time.monotonic() < deadline:
        seen = json.loads(bench.run("status", "last", "--json").stdout)["state"]
        if seen == state:
            return
        time.sleep(0.3)
    raise AssertionError(f"the run is {seen}, not {state}\n{bench.rank_logs()}")


def test_the_gradient_norm_does_not_depend_on_the_zero_stage(bench: Bench) -> None:
    norms = []
    for stage in (0, 3):
        run = bench.train(f"zero.stage={stage}", "train.max_steps=3", "data.eval=null")
        norms.append([record["grad_norm"] for record in records(run)])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_a_cancel_before_the_ranks_start_ends_the_run_before_it_has_got_far(bench: Bench) -> None:
    bench.run("submit", *bench.base, "train.max_steps=100000", "train.seed=7")
    run = bench.last()
    bench.run("cancel", run.name)
    wait_for_state(bench, "CANCELLED")
    assert not (run / "metrics.jsonl").exists() or max(losses(run), default=0) <= 1
