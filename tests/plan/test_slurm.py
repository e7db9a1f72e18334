from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from launcher.cluster.slurm import script
from launcher.plan.build import Request, plan_request
from launcher.rundir import RunDir


def batch_script(work: Path, *overrides: str) -> str:
    plan = plan_request(Request(recipe="demo", overrides=["cluster=slurm", *overrides], config_dir=None, work_dir=work))
    return script(plan, RunDir(Path(plan.run_dir)).submissions / "0001")


def test_what_a_site_asks_for_is_in_the_script(demo: Path, work: Path) -> None:
    text = batch_script(
        work, "cluster.partition=big", "cluster.account=acc", "cluster.gpu_type=h100", "cluster.mem_gb_per_node=0",
        "cluster.reservation=res", "cluster.cpus_per_gpu=4", "cluster.exclusive=true",
    )  # fmt: skip
    lines = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]
    asked = {"--partition=big", "--account=acc", "--gres=gpu:h100:8", "--mem=0G", "--reservation=res", "--exclusive"}
    assert asked <= set(lines)
    assert "--cpus-per-task=4" in next(line for line in text.splitlines() if line.startswith("srun "))


def test_nothing_that_was_typed_reaches_the_shell_as_code(demo: Path, work: Path) -> None:
    hostile = "$(touch owned); `touch owned` \"'"
    quoted = hostile.replace("\\", "\\\\").replace("'", "\\'")
    text = batch_script(work, f"+cluster.environment.NOTE='{quoted}'", f"runs_root='{work}/a {quoted} b'")
    setup = text.split("# setup\n")[1].split("# command")[0]
    # The prologue and what needs its answer are left out: everything before them must be harmless.
    harmless = "\n".join(line for line in setup.splitlines() if line.startswith("export "))
    command = f'{harmless}\nprintf %s "$NOTE"'
    result = subprocess.run(["bash", "-c", command], cwd=work, capture_output=True, text=True, check=True)
    assert result.stdout == hostile
    assert not (work / "owned").exists()


def test_the_script_is_one_that_bash_accepts(demo: Path, work: Path) -> None:
    text = batch_script(work, "runs_root='out put'")
    result = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert shlex.quote(str(work / "out put"))[:-1] in text
