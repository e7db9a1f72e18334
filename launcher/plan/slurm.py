"""submitit's Slurm parameters for a run, its batch script's lines included. Pure.

The script's shape: a prologue on the first node allots the attempt, one task per GPU runs, an epilogue records how
it ended. Every value reaches the shell through shlex.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from launcher.config.cluster import ClusterConfig
from launcher.rundir import RunDir
from launcher.runplan import Lead


def slurm_parameters(cluster: ClusterConfig, run_dir: RunDir, run_id: str, lead: Lead) -> dict[str, Any]:
    """Keyword arguments of submitit's SlurmExecutor; None values are left out."""
    parameters: dict[str, Any] = {
        "job_name": run_id,
        "nodes": cluster.nodes,
        "ntasks_per_node": cluster.gpus_per_node,
        "time": cluster.time_min,
        "signal_delay_s": lead.seconds,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "exclude": cluster.exclude,
        "exclusive": cluster.exclusive or None,
        "cpus_per_task": cluster.cpus_per_gpu,
        "mem": None if cluster.mem_gb_per_node is None else f"{cluster.mem_gb_per_node}G",
        "gres": ":".join(str(part) for part in ("gpu", cluster.gpu_type, cluster.gpus_per_node) if part is not None),
        # submitit's default key is refused on clusters that track them.
        "wckey": None,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True},
        "srun_args": _srun_args(cluster),
        "setup": _setup(cluster, run_dir.root),
        "teardown": _teardown(run_dir.root),
    }
    if cluster.reservation is not None:
        parameters["additional_parameters"]["reservation"] = cluster.reservation
    return {key: value for key, value in parameters.items() if value is not None}


def data_job_parameters(cluster: ClusterConfig, run_dir: RunDir, run_id: str) -> dict[str, Any]:
    """The same for the job that tokenises the run's data: one task, no GPU."""
    job = cluster.data_job
    parameters: dict[str, Any] = {
        "job_name": f"{run_id}-data",
        "nodes": 1,
        "ntasks_per_node": 1,
        "time": job.time_min,
        "partition": job.partition or cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "exclude": cluster.exclude,
        "cpus_per_task": job.cpus,
        "mem": f"{job.mem_gb}G",
        "wckey": None,
        "stderr_to_stdout": True,
        # It goes on where it was, so a preempted one may as well come back.
        "additional_parameters": {"requeue": True},
        "srun_args": [f"--cpus-per-task={job.cpus}"],
        "setup": _environment(cluster, run_dir.root),
    }
    return {key: value for key, value in parameters.items() if value is not None}


def eval_job_parameters(cluster: ClusterConfig, folder: Path, name: str, *, goes_on: bool = False) -> dict[str, Any]:
    """The same for a job that runs benchmarks, or in which a teacher answers: one task, and the code that lies in its
    own `folder`. `goes_on`: requeued, it goes on where it was.
    """
    job = cluster.eval_job
    parameters: dict[str, Any] = {
        "job_name": name,
        "nodes": 1,
        "ntasks_per_node": 1,
        "time": job.time_min,
        "partition": job.partition or cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "exclude": cluster.exclude,
        "cpus_per_task": job.cpus,
        "mem": None if job.mem_gb is None else f"{job.mem_gb}G",
        "gres": ":".join(str(part) for part in ("gpu", cluster.gpu_type, job.gpus) if part is not None),
        "wckey": None,
        "stderr_to_stdout": True,
        # Benchmarks would begin from the beginning, and results that are there would be made again.
        "additional_parameters": {"requeue": True} if goes_on else {"no_requeue": True},
        "srun_args": [f"--cpus-per-task={job.cpus}"],
        "setup": _environment(cluster, folder),
    }
    if job.gpus == 0:
        del parameters["gres"]
    if cluster.reservation is not None:
        parameters["additional_parameters"]["reservation"] = cluster.reservation
    return {key: value for key, value in parameters.items() if value is not None}


def _srun_args(cluster: ClusterConfig) -> list[str]:
    arguments = ["--kill-on-bad-exit=1"]
    if cluster.cpus_per_gpu is not None:
        # Since Slurm 22.05 srun no longer takes this from sbatch.
        arguments.append(f"--cpus-per-task={cluster.cpus_per_gpu}")
    return arguments


def _python(module: str, *arguments: str) -> str:
    return shlex.join([sys.executable, "-m", module, *arguments])


def _word(value: str) -> str:
    """One word of bash. sbatch takes a carriage return before a line's end for a script written on DOS."""
    return shlex.quote(value).replace("\r", "'$'\\r''")


def _environment(cluster: ClusterConfig, run_dir: Path) -> list[str]:
    code = shlex.quote(str(run_dir / "code"))
    exports = [f"export {name}={_word(value)}" for name, value in sorted(cluster.environment.items())]
    return [
        "umask 077",
        # `python -m` puts the working directory first on the path: a checkout there would shadow the snapshot.
        f"cd -- {code}",
        f"export PYTHONPATH={code}${{PYTHONPATH:+:$PYTHONPATH}}",
        *exports,
    ]


def _setup(cluster: ClusterConfig, run_dir: Path) -> list[str]:
    return [
        *_environment(cluster, run_dir),
        f"launcher_environment=$({_python('launcher.node.prologue', str(run_dir))}) || "
        # One that was killed could not say so, nor ask for another start.
        f"{{ launcher_status=$?; {_epilogue(run_dir)}; exit $launcher_status; }}",
        'eval "$launcher_environment"',
    ]


def _teardown(run_dir: Path) -> list[str]:
    return [
        "launcher_status=$?",
        # Killed alone, it is run again: nobody else would put the job back into the queue.
        f"{_epilogue(run_dir)}; [ $? -ne 137 ] || {_epilogue(run_dir)}",
        'exit "$launcher_status"',
    ]


def _epilogue(run_dir: Path) -> str:
    return f'{_python("launcher.node.epilogue", str(run_dir))} "$launcher_status"'
