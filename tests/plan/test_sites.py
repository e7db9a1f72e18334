"""The batch scripts that different sites ask for, in full. `tests/slurm` has a real sbatch read them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.cluster.slurm import script
from launcher.errors import UserError
from launcher.plan.build import Request, plan_request
from launcher.rundir import RunDir
from launcher.runplan import RunPlan

PYXIS = ["cluster.software.image='nvcr.io#nvidia/pytorch:25.06-py3'"]
APPTAINER = ["cluster.software.image=/images/train.sif", "cluster.software.runtime=apptainer"]
SITES: dict[str, list[str]] = {
    "pyxis": [*PYXIS, "cluster.environment.NCCL_IB_HCA=mlx5", "cluster.software.mounts=[/data,/opt/site:/site:ro]"],
    "apptainer": [*APPTAINER, "cluster.software.modules=[apptainer/1.3]", "cluster.software.python=/opt/py/bin/python"],
    "conda": ["cluster.software.conda=train"],
    "venv": ["cluster.software.venv=own env"],
    "modules": ["cluster.software.modules=[cuda/12.8,gcc/13.2]"],
    "qos": ["cluster.account=mine", "cluster.qos=fast"],
    "exclude": ["cluster.exclude='n1,n[3-4]'", "cluster.nodes=1"],
    "wckey": ["cluster.wckey=project-7"],
    "reservation": ["cluster.reservation=course"],
    "constraint": ["cluster.constraint='h100&ib'"],
    "gpus_per_node": ["cluster.gpu_request=gpus_per_node", "cluster.gpu_type=h100", "cluster.mem_gb_per_gpu=2"],
    "whole_nodes": ["cluster.gpu_request=none", "cluster.exclusive=true", "cluster.mem_gb_per_node=0"],
    "surroundings": [
        "cluster.prologue=site.sh", "cluster.network_interface=ib0", "cluster.proxy=http://proxy.example:3128",
        "cluster.local_dir=/local/%j/tmp", "cluster.scratch_dir=fast",
    ],
}  # fmt: skip
"""What each site sets, over a profile without opinions."""


def planned(work: Path, *overrides: str) -> RunPlan:
    (work / "site.sh").write_text("ulimit -n 65536\n")
    python = work / "own env" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    if not python.exists():
        python.symlink_to(sys.executable)
    words = ["cluster=slurm", "cluster.gpus_per_node=2", *overrides]
    return plan_request(Request(recipe="demo", overrides=words, config_dir=None, work_dir=work))


def batch_script(plan: RunPlan) -> str:
    return script(plan, RunDir(Path(plan.run_dir)).submissions / "0001")


@pytest.mark.parametrize("site", SITES)
def test_the_batch_script_of_a_site_is_as_it_was(
    site: str, demo: Path, work: Path, golden: Callable[[str, str], None]
) -> None:
    plan = planned(work, *SITES[site])
    text = batch_script(plan)
    result = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    places = {plan.run_id: "RUN", sys.executable: "/PYTHON", str(work / "runs"): "/RUNS", str(demo): "/DEMO"}
    for place, name in {**places, str(work): "/WORK"}.items():
        text = text.replace(place, name)
    golden(f"sites/{site}.sbatch", text + "\n")


def test_an_image_is_shown_what_ranks_read_and_write_and_nothing_within_that_again(demo: Path, work: Path) -> None:
    plan = planned(work, *PYXIS, "data.cache_dir=cache", "cluster.scratch_dir=fast", "cluster.local_dir=/local/%j")
    (line,) = [line for line in batch_script(plan).splitlines() if line.startswith("srun ")]
    (word,) = [word for word in shlex.split(line) if word.startswith("--container-mounts=")]
    seen = [mount.partition(":")[0] for mount in word.partition("=")[2].split(",")]
    assert seen == [plan.run_dir, str(work / "cache"), str(demo / "model"), str(work / "fast"), "/local"]
    plan = planned(work, *PYXIS, f"data.cache_dir={demo}")
    assert str(demo / "model") not in batch_script(plan)


def test_a_model_of_the_hub_is_seen_in_an_image_where_its_cache_is(
    demo: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", "/elsewhere/hf")
    hub = ["model=llama3_8b", "model.path=meta-llama/Llama-3.1-8B", "model.init=pretrained"]
    plan = planned(work, *APPTAINER, *hub)
    assert "--bind /elsewhere/hf:/elsewhere/hf" in batch_script(plan)
    plan = planned(work, *APPTAINER, *hub, "cluster.environment.HF_HOME=/job/hf")
    assert "--bind /job/hf:/job/hf" in batch_script(plan)


def test_what_computes_on_a_cpu_asks_an_image_for_no_devices(demo: Path, work: Path) -> None:
    assert "exec --nv" in batch_script(planned(work, *APPTAINER))
    assert "--nv" not in batch_script(planned(work, *APPTAINER, "cluster.accelerator=cpu"))


def test_a_folder_that_no_image_could_be_shown_is_refused(demo: Path, work: Path) -> None:
    with pytest.raises(UserError) as refused:
        planned(work, *PYXIS, "runs_root='a,b'")
    assert [problem.where for problem in refused.value.problems] == ["cluster.software.image"] * 2


def test_what_a_site_sets_reaches_the_ranks_unharmed(demo: Path, work: Path) -> None:
    hostile = "$(touch owned) `touch owned` ' \" %"
    site = work / "si te"
    site.mkdir()
    (site / "it's $(x).sh").write_text("export FROM_SITE=yes\n")
    quoted = hostile.replace("'", "\\'")
    plan = planned(
        work, f"+cluster.environment.NOTE='{quoted}'", "cluster.prologue='si te/it\\'s $(x).sh'",
        "cluster.local_dir='/l c/%j/$(x)'",
    )  # fmt: skip
    copy = RunDir(Path(plan.run_dir)).prologue
    copy.parent.mkdir(parents=True)
    copy.write_text((site / "it's $(x).sh").read_text())
    (Path(plan.run_dir) / "code").mkdir()
    setup = batch_script(plan).split("# setup\n")[1].split("launcher_environment=")[0]
    shown = 'printf "%s|%s|%s" "$NOTE" "$FROM_SITE" "$LAUNCHER_LOCAL_DIR"'
    result = subprocess.run(
        ["bash", "-c", f"{setup}\n{shown}"],
        cwd=work, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7"},
    )  # fmt: skip
    assert result.stdout == f"{hostile}|yes|/l c/7/$(x)"
    assert not list(work.rglob("owned"))


def test_a_job_whose_environment_cannot_be_set_up_ends_there_and_says_so(demo: Path, work: Path) -> None:
    plan = planned(work, "cluster.software.conda=train")
    (Path(plan.run_dir) / "code").mkdir(parents=True)
    result = subprocess.run(
        ["bash"], input=batch_script(plan), capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert result.returncode == 1
    assert "launcher: the environment of this job could not be set up" in result.stderr
    assert "prologue" not in result.stderr
