"""Clusters behind one Protocol: `executor` gives the one that a plan or a job names."""

from __future__ import annotations

from launcher.cluster.protocol import Executor


def executor(kind: str) -> Executor:
    """The executor called `kind` (`slurm` or `local`)."""
    if kind == "slurm":
        from launcher.cluster.slurm import SlurmExecutor

        return SlurmExecutor()
    assert kind == "local", kind
    from launcher.cluster.local import LocalExecutor

    return LocalExecutor()
