"""Whole runs on a real Slurm: several nodes, queues, requeues, and what was frozen at submission."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import launcher
from launcher.publish import read_records
from tests.workbench import Bench, losses, records

pytestmark = [pytest.mark.slurm, pytest.mark.train]

TWO_NODES = ["cluster=devslurm", "cluster.nodes=2", "cluster.gpus_per_node=1"]


def slurm(bench: Bench, *command: str) -> str:
    """What a Slurm command prints."""
    environment = {**os.environ, **bench.environment}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


def wait(condition: Callable[[], bool], what: str, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {timeout_s} s")


def status(bench: Bench, run: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads(bench.run("status", run.name, "--json").stdout)
    return document


def test_four_ranks_on_two_nodes_are_one_job_with_metrics_for_every_step(slurm_bench: Bench) -> None:
    run = slurm_bench.train("cluster=devslurm", "cluster.nodes=2", "cluster.gpus_per_node=2")
    told = status(slurm_bench, run)
    why = slurm_bench.run("why", run.name, check=False).stdout
    assert (told["state"], told["step"], told["attempts"]) == ("COMPLETED", 8, 1), why
    assert list(losses(run)) == list(range(1, 9))
    assert "NodeList=n[1-2]" in slurm(slurm_bench, "scontrol", "show", "job", str(told["job_id"]))
    logs = sorted(path.name for path in (run / "attempts" / "0001").glob("rank-*.log"))
    assert logs == [f"rank-0000{rank}.log" for rank in range(4)]


def test_stopped_at_half_and_resumed_is_bitwise_a_straight_run(slurm_bench: Bench) -> None:
    overrides = [*TWO_NODES, "zero.stage=2", "data.eval=null"]
    straight = slurm_bench.train(*overrides)
    stopped = slurm_bench.train(*overrides, "train.stop_at=4")
    slurm_bench.run("resume", stopped.name, "train.stop_at=null", "--follow")
    assert list(losses(stopped)) == list(range(1, 9))
    assert losses(stopped) == losses(straight)
    assert status(slurm_bench, stopped)["attempts"] == 2


def test_what_is_edited_while_a_job_waits_never_reaches_it(slurm_bench: Bench, tmp_path: Path) -> None:
    package = tmp_path / "checkout"
    shutil.copytree(Path(launcher.__file__).parent, package / "launcher", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("conf", "recipes"):
        shutil.copytree(Path(launcher.__file__).parent.parent / folder, package / folder)
    mine = Bench(root=package, environment={**slurm_bench.environment, "LAUNCHER_RUNS_ROOT": "runs"})
    recipe, group = package / "recipes" / "mine.yaml", package / "conf" / "optim" / "mine.yaml"
    recipe.write_text(
        "defaults: [demo, _self_, {override /optim: mine}]\ntrain: {max_steps: 5}\noptim: {lr: 0.00125}\n"
    )
    group.write_text("defaults: [adamw]\neps: 1.0e-6\n")
    # The whole cluster, held by somebody else.
    blocker = slurm(
        slurm_bench, "sbatch", "--parsable", "--nodes=4", "--exclusive", "--output=/dev/null", "--wrap=sleep 600"
    )
    wait(lambda: "RUNNING" in slurm(slurm_bench, "squeue", "-h", "-j", blocker.strip(), "-o", "%T"), "the blocker")
    arguments = [word for word in slurm_bench.base[1:] if not word.startswith("train.max_steps")]
    submitted = json.loads(mine.run("submit", "mine", *arguments, *TWO_NODES, "optim.weight_decay=0", "--json").stdout)
    run = Path(submitted["run_dir"])
    assert status(mine, run)["state"] == "QUEUED"
    recipe.write_text(recipe.read_text().replace("5", "2"))
    group.write_text(group.read_text().replace("1.0e-6", "1.0"))
    for file in (package / "launcher").rglob("*.py"):
        file.write_text("raise RuntimeError('edited after submission')\n")
    slurm(slurm_bench, "scancel", blocker.strip())
    followed = Bench(root=package, environment={**mine.environment, "PYTHONSAFEPATH": "1"})
    wait(lambda: status(followed, run)["state"] in ("COMPLETED", "FAILED"), "the end of the run")
    assert status(followed, run)["state"] == "COMPLETED", followed.rank_logs()
    assert list(losses(run)) == [1, 2, 3, 4, 5]
    assert max(record["lr"] for record in records(run) if "lr" in record) == pytest.approx(0.00125)
    assert json.loads((run / "plan.json").read_text())["config"]["optim"]["eps"] == 1e-6


def test_no_secret_reaches_the_run_directory_or_a_command_line(slurm_bench: Bench) -> None:
    key = "0123456789abcdef0123456789abcdef0badcafe"
    bench = Bench(root=slurm_bench.root, environment={**slurm_bench.environment, "WANDB_API_KEY": key})
    process = bench.popen("submit", *bench.base, *TWO_NODES, "tracking=offline", "train.max_steps=40", "--follow")
    seen: set[str] = set()
    queue: set[str] = set()
    while process.poll() is None:
        queue.add(slurm(bench, "scontrol", "show", "job", "--details", "--details"))
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    seen.add((folder / "cmdline").read_text())
                except OSError:
                    continue
        time.sleep(0.05)
    assert process.returncode == 0, process.communicate()
    assert any("launcher.track.wandb_follower" in line for line in seen), "the run was not watched while it ran"
    assert not [line for line in seen if key in line]
    assert any("JobState=RUNNING" in text for text in queue)
    assert not [text for text in queue if key in text]
    run = bench.last()
    files = [path for path in run.rglob("*") if path.is_file()]
    assert any("wandb" in str(path.relative_to(run)) for path in files)
    assert not [path for path in files if key.encode() in path.read_bytes()]
    assert not [path for path in [run, *run.rglob("*")] if not path.is_symlink() and path.stat().st_mode & 0o077]


def test_an_unreachable_controller_is_one_message_and_leaves_nothing(tmp_path: Path, slurm_bench: Bench) -> None:
    text = Path(slurm_bench.environment["SLURM_CONF"]).read_text()
    lines = ["SlurmctldPort=1" if line.startswith("SlurmctldPort") else line for line in text.splitlines()]
    conf = tmp_path / "slurm.conf"
    conf.write_text("\n".join([*lines, "MessageTimeout=2"]) + "\n")
    runs = tmp_path / "runs"
    bench = Bench(root=slurm_bench.root, environment={"SLURM_CONF": str(conf), "LAUNCHER_RUNS_ROOT": str(runs)})
    result = bench.run("submit", *bench.base, *TWO_NODES, check=False)
    assert result.returncode == 4, result.stderr
    assert "cannot reach the controller" in result.stderr
    assert "Traceback" not in result.stderr
    assert not runs.exists() or not list(runs.iterdir())


def test_unprepared_data_is_tokenised_by_a_job_of_its_own_and_only_once(slurm_bench: Bench, tmp_path: Path) -> None:
    overrides = [*TWO_NODES, f"data.cache_dir={tmp_path / 'data'}", "train.max_steps=2"]
    run = slurm_bench.train(*overrides)
    job = json.loads((run / "submit" / "job.json").read_text())
    kinds = [event["event"] for event in read_records(run / "events.jsonl")]
    assert kinds.index("data_prepared") < kinds.index("attempt_started")
    shown = slurm(slurm_bench, "scontrol", "show", "job", job["data_job_id"])
    assert "JobState=COMPLETED" in shown
    assert "gres" not in shown
    again = slurm_bench.train(*overrides)
    assert json.loads((again / "submit" / "job.json").read_text())["data_job_id"] is None


def test_training_whose_data_cannot_be_prepared_never_starts_nor_waits_for_ever(
    slurm_bench: Bench, tmp_path: Path
) -> None:
    # No row is that short, which nobody sees who does not tokenise.
    overrides = [*TWO_NODES, f"data.cache_dir={tmp_path / 'data'}", "data.seq_len=2"]
    result = slurm_bench.run("submit", *slurm_bench.base, *overrides, "--follow", check=False)
    assert result.returncode == 5
    assert "its data could not be prepared" in result.stderr
    assert "data.seq_len" in result.stderr
    run = slurm_bench.last()
    assert not list((run / "attempts").iterdir())
    assert run.name not in slurm(slurm_bench, "squeue", "--format=%j")
