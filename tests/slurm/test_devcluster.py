"""`slurm/devcluster` against the Slurm that it starts: shape, GPUs, preemption, faults, clean ends.

Every cluster here lives in a temporary folder. Where Slurm is not installed the tests are skipped,
except in CI (`CI=true`), where that is a failure.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

DEVCLUSTER = Path(__file__).resolve().parents[2] / "slurm" / "devcluster"
EXIT_USAGE, EXIT_NOT_UP, EXIT_MISSING = 2, 3, 4

# Rank 0 listens on loopback, every other rank sends it its number, rank 0 prints their sum.
RENDEZVOUS = """
import os, socket, time
rank, world_size = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
if rank == 0:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with open("port.tmp", "w") as file:
            file.write(str(server.getsockname()[1]))
        os.rename("port.tmp", "port")
        peers = (server.accept()[0] for _ in range(world_size - 1))
        print("sum", sum(int(peer.recv(16)) for peer in peers), flush=True)
else:
    while not os.path.exists("port"):
        time.sleep(0.05)
    with socket.create_connection(("127.0.0.1", int(open("port").read()))) as peer:
        peer.sendall(str(rank).encode())
"""


def devcluster(verb: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs one verb for the cluster in `folder`; skips or fails the test where Slurm is missing."""
    command = [str(DEVCLUSTER), verb, "--dir", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    if done.returncode == EXIT_MISSING:
        if os.environ.get("CI") == "true":
            pytest.fail(done.stderr)
        pytest.skip(done.stderr.strip())
    return done


@dataclass(kw_only=True, slots=True)
class Cluster:
    """A running cluster and how to give it commands."""

    folder: Path
    """What --dir names."""

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """What the command prints, run as a user would who evaluated `devcluster env`."""
        script = f'eval "$("{DEVCLUSTER}" env --dir "{self.folder}")" && exec "$@"'
        done = subprocess.run(
            ["bash", "-c", script, "bash", *command],
            capture_output=True, text=True, timeout=60, cwd=cwd or self.folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sbatch(self, script: str, *options: str) -> str:
        """The id of the job that runs `script`, submitted without an output file."""
        return self.run("sbatch", "--parsable", "-o/dev/null", *options, "--wrap", script).strip()

    def job_field(self, job_id: str, field: str) -> str:
        """One field of `scontrol show job`, such as JobState or Restarts."""
        match = re.search(rf"\b{field}=(\S*)", self.run("scontrol", "show", "job", job_id))
        assert match is not None
        return match[1]

    def slurmd_pid(self, node: str) -> int:
        """The process that stands for `node`."""
        return int((self.folder / "run" / f"slurmd-{node}.pid").read_text())


def wait_until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Returns once `condition` holds; fails the test if that takes longer than `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {timeout_s} s"
        time.sleep(0.1)


def processes_mentioning(text: str) -> list[str]:
    """Command lines of live processes with `text` in their command line or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or belongs to somebody else
            continue
        if text.encode() in command + environment:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def start(folder: Path, *options: str) -> Cluster:
    """A cluster of two nodes with four GPUs each, just started."""
    done = devcluster("up", folder, "--nodes", "2", "--gpus", "4", *options)
    assert done.returncode == 0, done.stderr
    return Cluster(folder=folder)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests that leave it as they found it."""
    folder = tmp_path_factory.mktemp("cluster") / "dev"
    try:
        yield start(folder)
    finally:
        devcluster("down", folder)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a cluster of the test's own, ended afterwards."""
    yield tmp_path / "own"
    devcluster("down", tmp_path / "own")


def test_tasks_run_on_both_nodes(cluster: Cluster) -> None:
    names = cluster.run("srun", "-N2", "--ntasks-per-node=2", "printenv", "SLURMD_NODENAME")
    assert sorted(names.split()) == ["n1", "n1", "n2", "n2"]


def test_node_names_expand_although_they_do_not_resolve(cluster: Cluster) -> None:
    assert cluster.run("scontrol", "show", "hostnames", "n[1-2]").split() == ["n1", "n2"]


def test_jobs_sharing_a_node_get_different_gpus(cluster: Cluster) -> None:
    show = "srun --exact -n1 --gres=gpu:2 bash -c 'echo $CUDA_VISIBLE_DEVICES; sleep 1' & "
    printed = cluster.run("srun", "-N1", "--gres=gpu:2", "printenv", "CUDA_VISIBLE_DEVICES")
    assert printed.split() == ["0,1"]
    both = cluster.run("salloc", "-Q", "-N1", "-n2", "--gres=gpu:4", "bash", "-c", show * 2 + "wait")
    assert sorted(both.split()) == ["0,1", "2,3"]


def test_processes_of_a_job_reach_each_other_over_loopback(cluster: Cluster, tmp_path: Path) -> None:
    command = ["srun", "-N2", "--ntasks-per-node=2", sys.executable, "-c", RENDEZVOUS]
    assert cluster.run(*command, cwd=tmp_path) == "sum 6\n"


def test_high_preempts_low_by_requeueing(cluster: Cluster) -> None:
    # With a grace time Slurm requeues up to 30 s late, as it checks time limits that rarely.
    cluster.run("scontrol", "update", "PartitionName=low", "GraceTime=0")
    low = cluster.sbatch("sleep 300", "-N2", "--gres=gpu:4")
    wait_until(lambda: cluster.job_field(low, "JobState") == "RUNNING", timeout_s=10)
    high = cluster.sbatch("true", "-N2", "--gres=gpu:4", "--partition=high")
    wait_until(lambda: cluster.job_field(high, "JobState") == "COMPLETED", timeout_s=15)
    assert cluster.job_field(low, "JobState") == "PENDING"
    assert cluster.job_field(low, "Restarts") == "1"
    cluster.run("scancel", low)


def test_daemons_do_not_inherit_the_environment_of_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED_FROM_UP", "yes")
    own = start(folder)
    for pid_file in (own.folder / "run").glob("*.pid"):
        environment = Path(f"/proc/{pid_file.read_text().strip()}/environ").read_bytes()
        assert b"LEAKED_FROM_UP" not in environment


def test_up_again_changes_nothing(cluster: Cluster) -> None:
    before = [cluster.slurmd_pid(node) for node in ("n1", "n2")]
    done = devcluster("up", cluster.folder, "--nodes", "2", "--gpus", "4")
    assert (done.returncode, done.stderr) == (0, "")
    assert "already up" in done.stdout
    assert [cluster.slurmd_pid(node) for node in ("n1", "n2")] == before


def test_up_with_another_shape_is_refused(cluster: Cluster) -> None:
    done = devcluster("up", cluster.folder, "--nodes", "3", "--gpus", "4")
    assert done.returncode == EXIT_USAGE
    assert "down --dir" in done.stderr


def test_up_brings_back_a_node_whose_slurmd_was_killed(cluster: Cluster) -> None:
    unharmed, lost = cluster.slurmd_pid("n1"), cluster.slurmd_pid("n2")
    os.kill(lost, signal.SIGKILL)
    wait_until(lambda: devcluster("status", cluster.folder).returncode == 3, timeout_s=5)
    done = devcluster("up", cluster.folder, "--nodes", "2", "--gpus", "4")
    assert done.returncode == 0, done.stderr
    assert cluster.slurmd_pid("n1") == unharmed
    assert cluster.slurmd_pid("n2") != lost
    assert cluster.run("srun", "-w", "n2", "printenv", "SLURMD_NODENAME") == "n2\n"


def test_status_of_a_running_cluster_lists_daemons_and_nodes(cluster: Cluster) -> None:
    done = devcluster("status", cluster.folder)
    assert done.returncode == 0, done.stdout
    assert f"slurmd-n2    running, pid {cluster.slurmd_pid('n2')}" in done.stdout
    assert "PARTITION" in done.stdout


def test_two_clusters_side_by_side_one_with_accounting(cluster: Cluster, folder: Path) -> None:
    other = start(folder, "--accounting")
    job = other.sbatch("true", "--job-name=elsewhere")
    show = ("sacct", "-n", "-X", "-j", job, "-o", "JobName,State")
    wait_until(lambda: other.run(*show).split() == ["elsewhere", "COMPLETED"], timeout_s=20)
    assert "elsewhere" not in cluster.run("squeue", "--states=all", "-o", "%j")
    assert devcluster("down", folder).returncode == 0
    assert cluster.run("srun", "printenv", "SLURMD_NODENAME") == "n1\n"


def test_up_after_a_crash_starts_afresh(folder: Path) -> None:
    crashed = start(folder)
    crashed.sbatch("sleep 303")
    for pid_file in (folder / "run").glob("*.pid"):
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    assert start(folder).run("squeue", "-h", "--states=all") == ""
    assert devcluster("status", folder).returncode == 0


def test_down_ends_every_process_and_removes_the_folder(folder: Path) -> None:
    own = start(folder)
    # The second process leaves the job's session, as a stray rank would.
    job = own.sbatch("setsid sleep 301 & srun sleep 302", "-N2")
    wait_until(lambda: own.job_field(job, "JobState") == "RUNNING", timeout_s=10)
    wait_until(lambda: any("sleep 302" in p for p in processes_mentioning(str(folder))), timeout_s=10)
    assert devcluster("down", folder).returncode == 0
    assert processes_mentioning(str(folder)) == []
    assert not folder.exists()
    assert devcluster("down", folder).returncode == 0


def test_down_spares_the_shell_that_uses_the_cluster(folder: Path) -> None:
    start(folder)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    with subprocess.Popen(["sleep", "300"], env=environment) as user:
        assert devcluster("down", folder).returncode == 0
        assert user.poll() is None
        user.kill()


def test_a_deep_folder_works_although_socket_paths_are_short(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    try:
        assert start(deep).run("srun", "printenv", "SLURMD_NODENAME") == "n1\n"
        short = Path((deep / "short-folder").read_text().strip())
        assert short.exists()
    finally:
        devcluster("down", deep)
    assert not short.exists()


def test_a_folder_that_is_not_a_cluster_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    for verb in ("up", "down"):
        assert devcluster(verb, tmp_path).returncode == EXIT_USAGE
    assert (tmp_path / "thesis.tex").exists()


def test_env_and_status_say_when_nothing_is_up(tmp_path: Path) -> None:
    for verb in ("env", "status"):
        done = devcluster(verb, tmp_path / "none")
        assert (done.returncode, done.stdout) == (EXIT_NOT_UP, "")
        assert "no cluster" in done.stderr


@pytest.mark.parametrize("options", [["--nodes", "0"], ["--gpus", "many"], ["--nodes"], ["--frob"]])
def test_wrong_options_are_refused_with_the_usage(tmp_path: Path, options: list[str]) -> None:
    done = devcluster("up", tmp_path / "none", *options)
    assert done.returncode == EXIT_USAGE
    assert "usage: devcluster" in done.stderr
    assert not (tmp_path / "none").exists()
