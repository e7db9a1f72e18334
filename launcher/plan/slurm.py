"""submitit's Slurm parameters for a run, its batch script's lines included. Pure.

The script's shape: a prologue on the first node allots the attempt, one task per GPU runs, an epilogue records how
it ended. Every value reaches the shell through shlex.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launcher.config.cluster import ClusterConfig, DataJobConfig, ExportJobConfig, GpuRequest
from launcher.plan.mounts import mounts as mounted
from launcher.plan.site import host_python, prepared, srun_options, starter
from launcher.rundir import CheckDir, EvalDir, RunDir, SweepDir
from launcher.runplan import Lead, RunPlan


def slurm_parameters(
    cluster: ClusterConfig, run_dir: RunDir, run_id: str, lead: Lead, mounts: Sequence[str] = ()
) -> dict[str, Any]:
    """Keyword arguments of submitit's SlurmExecutor; None values are left out.

    `mounts` are the folders that a container must see.
    """
    parameters: dict[str, Any] = {
        "job_name": run_id,
        **_asked(cluster, cluster.nodes, cluster.time_min),
        "signal_delay_s": lead.seconds,
        "additional_parameters": {"requeue": True, **_reservation(cluster)},
        "srun_args": [*_srun_args(cluster), *srun_options(cluster, run_dir.code, mounts)],
        "python": starter(cluster, run_dir.code, mounts),
        "setup": _setup(cluster, shlex.quote(str(run_dir.root))),
        "teardown": _teardown(cluster, shlex.quote(str(run_dir.root))),
    }
    return {key: value for key, value in parameters.items() if value is not None}


def data_job_parameters(cluster: ClusterConfig, run_dir: RunDir, run_id: str) -> dict[str, Any]:
    """The same for the job that tokenises the run's data: one task, no GPU."""
    return _without_gpus(cluster, run_dir, f"{run_id}-data", cluster.data_job, cluster.data_job.mem_gb)


def export_job_parameters(cluster: ClusterConfig, run_dir: RunDir, run_id: str, mem_gb: int) -> dict[str, Any]:
    """The same for the job that exports what was trained; `mem_gb` is its host memory where the config names none."""
    return _without_gpus(cluster, run_dir, f"{run_id}-export", cluster.export_job, cluster.export_job.mem_gb or mem_gb)


def _without_gpus(
    cluster: ClusterConfig, run_dir: RunDir, name: str, job: DataJobConfig | ExportJobConfig, mem_gb: int
) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "job_name": name,
        "nodes": 1,
        "ntasks_per_node": 1,
        "time": job.time_min,
        "partition": job.partition or cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "exclude": cluster.exclude,
        "cpus_per_task": job.cpus,
        "mem": f"{mem_gb}G",
        "wckey": cluster.wckey,
        "stderr_to_stdout": True,
        # Killed half way, it goes on or begins again, so a preempted one may as well come back.
        "additional_parameters": {"requeue": True},
        "srun_args": [f"--cpus-per-task={job.cpus}"],
        "python": shlex.quote(host_python(cluster)),
        "setup": _in_run(cluster, shlex.quote(str(run_dir.root))),
    }
    return {key: value for key, value in parameters.items() if value is not None}


def eval_job_parameters(
    cluster: ClusterConfig,
    folder: Path,
    name: str,
    *,
    prologue: Path | None,
    mounts: Sequence[str] = (),
    goes_on: bool = False,
) -> dict[str, Any]:
    """The same for a job that runs benchmarks, or in which a teacher answers: one task, and the code that lies in its
    own `folder`. `prologue` is a copy of the site's; `goes_on`: requeued, it goes on where it was.
    """
    job, code = cluster.eval_job, EvalDir(folder).code
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
        **_gpus(cluster, job.gpus),
        "wckey": cluster.wckey,
        "stderr_to_stdout": True,
        # Benchmarks would begin from the beginning, and results that are there would be made again.
        "additional_parameters": {"requeue" if goes_on else "no_requeue": True, **_reservation(cluster)},
        "srun_args": [f"--cpus-per-task={job.cpus}", *srun_options(cluster, code, mounts)],
        "python": starter(cluster, code, mounts),
        "setup": prepared(cluster, _word(code), _word(prologue) if cluster.prologue is not None else None),
    }
    return {key: value for key, value in parameters.items() if value is not None}


def check_job_parameters(cluster: ClusterConfig, folder: CheckDir, nodes: int, time_min: int) -> dict[str, Any]:
    """The same for the job that checks a cluster: ranks as a run's, which only meet, measure and leave."""
    mounts = [str(folder.root)] if cluster.software.image is not None else []
    code = folder.code
    meeting = f"launcher_environment=$({_python(cluster, 'launcher.node.rendezvous', '').rstrip()}) || exit"
    parameters: dict[str, Any] = {
        "job_name": "launcher-doctor",
        **_asked(cluster, nodes, time_min),
        "additional_parameters": {"no_requeue": True, **_reservation(cluster)},
        "srun_args": [*_srun_args(cluster), *srun_options(cluster, code, mounts)],
        "python": starter(cluster, code, mounts),
        "setup": [
            *prepared(cluster, _word(code), _word(folder.prologue) if cluster.prologue is not None else None),
            meeting,
            'eval "$launcher_environment"',
        ],
    }
    return {key: value for key, value in parameters.items() if value is not None}


def _asked(cluster: ClusterConfig, nodes: int, time_min: int) -> dict[str, Any]:
    """What a job with a rank for each GPU asks for."""
    return {
        "nodes": nodes,
        "ntasks_per_node": cluster.gpus_per_node,
        "time": time_min,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
        "exclude": cluster.exclude,
        "exclusive": cluster.exclusive or None,
        "cpus_per_task": cluster.cpus_per_gpu,
        "mem": None if cluster.node_memory_gb is None else f"{cluster.node_memory_gb}G",
        **_gpus(cluster, cluster.gpus_per_node),
        "wckey": cluster.wckey,
        "stderr_to_stdout": True,
    }


def _gpus(cluster: ClusterConfig, count: int) -> dict[str, str]:
    """The parameter that asks for that many GPUs of each node."""
    if count == 0 or cluster.gpu_request is GpuRequest.none:
        return {}
    asked = ":".join(str(part) for part in (cluster.gpu_type, count) if part is not None)
    if cluster.gpu_request is GpuRequest.gpus_per_node:
        return {"gpus_per_node": asked}
    return {"gres": f"gpu:{asked}"}


def _reservation(cluster: ClusterConfig) -> dict[str, str]:
    return {} if cluster.reservation is None else {"reservation": cluster.reservation}


def _srun_args(cluster: ClusterConfig) -> list[str]:
    arguments = ["--kill-on-bad-exit=1"]
    if cluster.cpus_per_gpu is not None:
        # Since Slurm 22.05 srun no longer takes this from sbatch.
        arguments.append(f"--cpus-per-task={cluster.cpus_per_gpu}")
    return arguments


def array_parameters(plan: RunPlan, name: str, tasks: Path) -> dict[str, Any]:
    """Those of an array whose every task is a run that asks for what `plan` does.

    `tasks` holds a link to each run's directory, named after the task's number: the script goes through it, and so do
    Slurm's names of logs, so that each run's lie in its own directory. `tasks` is SWEEP_DIR/arrays/N/tasks.
    """
    assert plan.slurm is not None, "a plan for this machine has no array"
    cluster, code = plan.config.cluster, SweepDir(tasks.parents[2]).code
    # An image must see every run, and the code that all of them link to.
    seen = mounted(plan.config, RunDir(Path(plan.config.runs_root)))
    run, log = '"$launcher_run"', f"{tasks}/%a/submit/0001/%A_%a_"
    find = f'launcher_run=$(readlink -f -- {shlex.quote(str(tasks))}/"$SLURM_ARRAY_TASK_ID") || exit 1'
    return {
        **plan.slurm,
        "job_name": name,
        # Of two options the last counts; submitit's would put all logs into one folder.
        "additional_parameters": {**plan.slurm["additional_parameters"], "output": f"{log}0_log.out"},
        "srun_args": [*_srun_args(cluster), *srun_options(cluster, code, seen), f"--output={log}%t_log.out"],
        "python": starter(cluster, code, seen),
        "setup": ["export LAUNCHER_SUBMISSION=1", find, *_setup(cluster, run)],
        "teardown": _teardown(cluster, run),
    }


def _word(path: Path | None) -> str:
    return shlex.quote(str(path))


def _python(cluster: ClusterConfig, module: str, argument: str) -> str:
    """The command that runs `module` with a word of the shell's."""
    return f"{shlex.join([host_python(cluster), '-m', module])} {argument}"


def _in_run(cluster: ClusterConfig, run: str) -> list[str]:
    """Lines that set up the environment of a run whose directory the word `run` stands for."""
    return prepared(cluster, f"{run}/code", f"{run}/prologue.sh" if cluster.prologue is not None else None)


def _setup(cluster: ClusterConfig, run: str) -> list[str]:
    return [
        *_in_run(cluster, run),
        f"launcher_environment=$({_python(cluster, 'launcher.node.prologue', run)}) || "
        # One that was killed could not say so, nor ask for another start.
        f"{{ launcher_status=$?; {_epilogue(cluster, run)}; exit $launcher_status; }}",
        'eval "$launcher_environment"',
    ]


def _teardown(cluster: ClusterConfig, run: str) -> list[str]:
    epilogue = _epilogue(cluster, run)
    return [
        "launcher_status=$?",
        # Killed alone, it is run again: nobody else would put the job back into the queue.
        f"{epilogue}; [ $? -ne 137 ] || {epilogue}",
        'exit "$launcher_status"',
    ]


def _epilogue(cluster: ClusterConfig, run: str) -> str:
    return f'{_python(cluster, "launcher.node.epilogue", run)} "$launcher_status"'
