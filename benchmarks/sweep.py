"""What `launcher submit RECIPE -m …` takes for each member, against submitit's `map_array` on empty functions.

    python -m benchmarks.sweep [--members 1000] [--rounds 3] [--recipe demo]

Starts a development cluster whose partition is down, so that all is queued and nothing runs. Both are new processes, in
turn, from the interpreter's start to its end: ours composes, validates, plans and freezes a run for every member.
Prints milliseconds a member of both, by the medians, and how many arrays it came to; and the same of processor time,
which work beside it does not stretch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TypeAlias

DEVCLUSTER = Path(__file__).resolve().parents[1] / "slurm" / "devcluster"
Taken: TypeAlias = tuple[float, float]
"""Seconds, and seconds of processor time."""
BARE = """
import sys, submitit
def nothing(number): pass
executor = submitit.SlurmExecutor(folder=sys.argv[1])
executor.update_parameters(time=30, partition="low", array_parallelism=int(sys.argv[2]))
assert len(executor.map_array(nothing, range(int(sys.argv[2])))) == int(sys.argv[2])
"""


def main() -> None:
    """Take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recipe", default="demo")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cluster, work = Path(folder) / "dc", Path(folder)
        subprocess.run([DEVCLUSTER, "up", "--nodes", "1", "--gpus", "8", "--dir", cluster], check=True)
        try:
            environment = {**os.environ, "SLURM_CONF": str(cluster / "slurm.conf")}
            down = ["scontrol", "update", "PartitionName=low", "State=DOWN"]
            subprocess.run(down, check=True, env=environment)
            _compare(options, work, environment)
        finally:
            subprocess.run([DEVCLUSTER, "down", "--dir", cluster], check=True, stdout=subprocess.DEVNULL)


def _compare(options: argparse.Namespace, work: Path, environment: dict[str, str]) -> None:
    members = options.members
    # Two keys, one that changes a part of the config that others share and one that no two members have in common.
    seeds = f"train.seed=range({members // 4})"
    swept = ["optim.lr=1e-5,2e-5,3e-5,4e-5", seeds] if members % 4 == 0 else [f"train.seed=range({members})"]
    theirs, ours = list[Taken](), list[Taken]()
    for number in range(options.rounds):
        bare = [sys.executable, "-c", BARE, str(work / f"bare-{number}"), str(members)]
        theirs.append(_timed(bare, work, environment)[0])
        launcher = [sys.executable, "-m", "launcher.cli.main", "--runs-root", str(work / f"runs-{number}")]
        command = [*launcher, "submit", options.recipe, "-m", "cluster=devslurm", *swept, "--json"]
        taken, said = _timed(command, work, environment)
        ours.append(taken)
        arrays = {run["job_id"].partition("_")[0] for run in json.loads(said)["runs"]}
        subprocess.run(["scancel", "--partition=low"], check=True, env=environment)
    print(f"{members} members in {len(arrays)} array{'s' if len(arrays) > 1 else ''}, medians of {options.rounds}:")
    for place, what in enumerate(("", " of processor time")):
        one, other = (1000 * median(taken[place] for taken in side) / members for side in (theirs, ours))
        print(f"map_array {one:.1f} ms{what} a member, launcher {other:.1f} ms, {other - one:.1f} ms above it")


def _timed(command: list[str], work: Path, environment: dict[str, str]) -> tuple[Taken, str]:
    """What the command took, its children included, and what it printed."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, cwd=work, env=environment, stdout=subprocess.PIPE, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    worked = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (time.perf_counter() - started, worked), done.stdout


if __name__ == "__main__":
    main()
