"""How a process of ours starts on a cluster's nodes: which interpreter, in which environment, inside which image. Pure.

The batch script runs on the host, for Slurm's commands are there; only what computes goes into an image. Every value
reaches the shell through shlex.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from launcher.config.cluster import Accelerator, ClusterConfig, Runtime

FIND_MODULE = (
    "type module >/dev/null 2>&1 || "
    'for launcher_file in "${LMOD_PKG:-}/init/bash" "${MODULESHOME:-}/init/bash" /etc/profile.d/*modules.sh '
    '/etc/profile.d/*lmod.sh; do [ ! -r "$launcher_file" ] || . "$launcher_file"; done'
)
"""A batch script is no login shell, so `module` may not be there yet."""


def host_python(cluster: ClusterConfig) -> str:
    """The interpreter of what runs outside an image."""
    software = cluster.software
    if software.image is not None:
        return sys.executable
    if software.python is not None:
        return software.python
    if software.venv is not None:
        return str(Path(software.venv) / "bin" / "python")
    if software.conda is not None:
        return str(Path(software.conda) / "bin" / "python") if software.conda.startswith("/") else "python"
    return sys.executable


def prepared(cluster: ClusterConfig, code: str, prologue: str | None) -> list[str]:
    """Lines of a batch script that set up the environment in which `code` is imported; both are words of the shell."""
    exports = [f"export {name}={_word(value)}" for name, value in cluster.variables.items()]
    return [
        *([] if prologue is None else [f". {prologue}"]),
        "umask 077",
        # `python -m` puts the working directory first on the path: a checkout there would shadow the snapshot.
        f"cd -- {code}",
        *_software(cluster),
        f"export PYTHONPATH={code}${{PYTHONPATH:+:$PYTHONPATH}}",
        *exports,
    ]


def _software(cluster: ClusterConfig) -> list[str]:
    software, lines = cluster.software, list[str]()
    if software.modules:
        lines += [FIND_MODULE, _or_leave(shlex.join(["module", "load", *software.modules]))]
    if software.conda is not None:
        # As a function, `conda` is only there in shells that its own start files have been read in.
        hook = 'launcher_hook=$(conda shell.bash hook) && eval "$launcher_hook"'
        lines.append(_or_leave(f"{hook} && conda activate {shlex.quote(software.conda)}"))
    if software.image is not None:
        lines.append(f"export LAUNCHER_IMAGE={shlex.quote(software.image)}")
    if cluster.local_dir is not None:
        pieces = [shlex.quote(piece) if piece else "" for piece in cluster.local_dir.split("%j")]
        lines.append("export LAUNCHER_LOCAL_DIR=" + '"$SLURM_JOB_ID"'.join(pieces))
    return lines


def _word(value: str) -> str:
    """One word of bash. sbatch takes a carriage return before a line's end for a script written on DOS."""
    return shlex.quote(value).replace("\r", "'$'\\r''")


def _or_leave(command: str) -> str:
    """`command`, without which nothing else would do what it should."""
    words = shlex.quote(f"launcher: the environment of this job could not be set up: {command}")
    return f"{{ {command}; }} || {{ echo {words} >&2; exit 1; }}"


def starter(cluster: ClusterConfig, code: Path, mounts: Sequence[str]) -> str:
    """Shell words that stand for the interpreter of what computes, inside the image if there is one."""
    software = cluster.software
    if software.image is None:
        return shlex.quote(host_python(cluster))
    # An image may set variables of its own, which would win over the job's.
    variables = [f"{name}={value}" for name, value in {**cluster.variables, "PYTHONPATH": str(code)}.items()]
    inside = ["env", *variables, software.python or "python3"]
    if software.runtime is Runtime.pyxis:
        return " ".join(map(_word, inside))
    devices = [] if cluster.accelerator is Accelerator.cpu else ["--nv"]
    binds = [word for mount in _all(cluster, mounts) for word in ("--bind", mount)]
    return " ".join(map(_word, [software.runtime.value, "exec", *devices, *binds, software.image, *inside]))


def srun_options(cluster: ClusterConfig, code: Path, mounts: Sequence[str]) -> list[str]:
    """What srun is told of the image, where it is srun that starts it."""
    software = cluster.software
    if software.image is None or software.runtime is not Runtime.pyxis:
        return []
    return [
        f"--container-image={software.image}",
        f"--container-mounts={','.join(_all(cluster, mounts))}",
        f"--container-workdir={code}",
    ]


def _all(cluster: ClusterConfig, mounts: Sequence[str]) -> list[str]:
    """SOURCE:TARGET of every mount, each once."""
    wanted = [*mounts, *cluster.software.mounts]
    return list(dict.fromkeys(mount if ":" in mount else f"{mount}:{mount}" for mount in wanted))
