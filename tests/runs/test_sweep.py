"""A sweep in the queue: as few arrays as can be, every member a run of its own, or nothing at all."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.cli.main import main
from launcher.errors import ClusterError
from launcher.plan.build import Request
from launcher.plan.sweep import plan_sweep
from launcher.runplan import RunPlan
from launcher.runs.freeze import frozen_texts
from launcher.runs.job import read_job
from launcher.runs.sweep import LaunchedSweep, launch_sweep
from tests.fakes import FakeSlurm

pytestmark = pytest.mark.slow

WORDS = ["cluster=devslurm", "cluster.data_job.enabled=false"]


def launched(work: Path, *words: str, at_once: int | None = None) -> LaunchedSweep:
    sweep = plan_sweep(Request(recipe="demo", overrides=words, config_dir=None, work_dir=work))
    return launch_sweep(sweep, ["demo", *words], at_once=at_once)


def scripts(found: LaunchedSweep) -> list[str]:
    return [path.read_text() for path in sorted(found.folder.root.glob("arrays/*/42_*.sh"))]


def array_of(script: str) -> str:
    (line,) = (line for line in script.splitlines() if line.startswith("#SBATCH --array="))
    return line.removeprefix("#SBATCH --array=").strip("'")


def test_members_are_one_array_and_each_is_a_run_of_its_own(demo: Path, work: Path, slurm: FakeSlurm) -> None:
    found = launched(work, *WORDS, "train.seed=1,2,3", at_once=2)
    assert len(slurm.calls("sbatch")) == 1
    (script,) = scripts(found)
    assert array_of(script) == "0-2%2"
    for number, run in enumerate(found.runs):
        job = read_job(run)
        assert job is not None
        assert job.job_id == f"42_{number}"
        assert RunPlan.load(run.plan).config.train.seed == number + 1
        assert run.overrides.read_text().splitlines() == ["demo", *WORDS, f"train.seed={number + 1}"]
        assert (run.code / "launcher/node/entry.py").is_file()
        assert json.loads(run.environment.read_text())["packages"]
        assert run.root.stat().st_mode & 0o777 == 0o700
        assert run.plan.stat().st_mode & 0o777 == 0o600
        assert (found.folder.array(1).tasks / str(number)).resolve() == run.root


def test_the_script_goes_to_the_run_of_its_task_and_to_no_shell_that_was_typed(
    demo: Path, work: Path, slurm: FakeSlurm
) -> None:
    hostile = work / "$(touch owned) a'b"
    quoted = str(hostile).replace("'", "\\'")
    found = launched(work, *WORDS, f"runs_root='{quoted}'", "train.seed=1,2")
    (script,) = scripts(found)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    setup = script.split("# setup\n")[1].split("launcher_environment=")[0]
    command = f'SLURM_ARRAY_TASK_ID=1\n{setup}\nprintf %s "$PWD"'
    seen = subprocess.run(["bash", "-c", command], cwd=work, capture_output=True, text=True, check=True).stdout
    assert seen == str(found.runs[1].code)
    assert not (work / "owned").exists()


def test_what_is_frozen_of_a_member_is_what_is_frozen_of_a_run(demo: Path, work: Path, slurm: FakeSlurm) -> None:
    found = launched(work, *WORDS, "train.seed=1,2", "optim.lr=0.1,0.2")
    for run in found.runs:
        plan, typed = RunPlan.load(run.plan), run.overrides.read_text().splitlines()
        for path, text in frozen_texts(run, plan, typed).items():
            assert path.read_text() == text
        assert run.plan.read_text() == json.dumps(plan.to_json(), indent=2) + "\n"


def test_more_members_than_an_array_takes_are_several(demo: Path, work: Path, slurm: FakeSlurm) -> None:
    slurm.scontrol("MaxArraySize            = 3")
    found = launched(work, *WORDS, "train.seed=range(0,7)", at_once=3)
    assert [array_of(script) for script in scripts(found)] == ["0-2%3", "0-2%3", "0-0%3"]
    # Slurm's limit is one array's, so the arrays take turns.
    assert [script.count("--dependency=afterany:42") for script in scripts(found)] == [0, 1, 1]
    assert [job.job_id for job in found.jobs] == ["42_0", "42_1", "42_2"] * 2 + ["42_0"]


def test_members_that_ask_for_different_nodes_are_different_arrays(demo: Path, work: Path, slurm: FakeSlurm) -> None:
    found = launched(work, *WORDS, "cluster.nodes=1,2", "train.seed=1,2")
    assert sorted(script.count("--nodes=2") for script in scripts(found)) == [0, 1]
    assert all("--dependency" not in script for script in scripts(found))


def test_one_data_job_serves_all_members_that_have_the_same_data(demo: Path, work: Path, slurm: FakeSlurm) -> None:
    found = launched(work, "cluster=devslurm", "data.seq_len=64,128", "train.seed=1,2")
    assert len(slurm.calls("sbatch")) == 2 + 2
    assert all("--dependency=afterok:42" in script for script in scripts(found))
    assert {job.data_job_id for job in found.jobs} == {"42"}
    main(["--runs-root", "runs", "cancel", found.runs[0].root.name])
    # The others still need it.
    assert slurm.calls("scancel") == ["42_0"]


def test_a_refused_sweep_leaves_nothing_behind(demo: Path, work: Path, slurm: FakeSlurm) -> None:
    slurm.refuse_after(1, "sbatch: error: Batch job submission failed: Invalid qos specification")
    with pytest.raises(ClusterError, match="Invalid qos"):
        launched(work, *WORDS, "cluster.nodes=1,2", "train.seed=1,2")
    assert slurm.calls("scancel") == ["42"]
    assert list((work / "runs").iterdir()) == [work / "runs" / ".sweeps"]
    assert list((work / "runs" / ".sweeps").iterdir()) == []


def test_a_broken_member_stops_all_and_is_the_users_to_mend(
    demo: Path, work: Path, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "demo", *WORDS, "-m", "optim.lr=0.1,fast"]) == 2
    assert "members 1" not in capsys.readouterr().err
    assert slurm.calls("sbatch") == []
    assert not (work / "runs").exists()


def test_a_member_lives_on_without_the_others_and_is_resumed_alone(
    demo: Path, work: Path, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    found = launched(work, *WORDS, "train.seed=1,2")
    shutil.rmtree(found.runs[0].root)
    slurm.state(None)
    assert main(["resume", found.runs[1].root.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["job_id"] == "42"
    assert not found.runs[1].code.is_symlink()
    assert (found.folder.code / "launcher/node/entry.py").is_file()
    job = read_job(found.runs[1])
    assert job is not None
    assert (job.submission, job.array) == (2, None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "train.seed=1"], "nothing here sweeps"),
        (["train.seed=1,2"], "-m KEY=VALUE,VALUE"),
        (["train.seed=1", "--at-once", "2"], "not a sweep"),
        (["-m", "train.seed=1,2", "--at-once", "0"], "1 or more"),
        (["-m", "train.seed=1,2", "--follow"], "launcher ls --sweep"),
    ],
)
def test_half_a_sweep_is_explained(
    demo: Path, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["submit", "demo", *words]) == 2
    assert said in capsys.readouterr().err
    assert slurm.calls("sbatch") == []
