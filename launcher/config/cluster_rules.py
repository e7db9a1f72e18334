"""Rules for a cluster profile: numbers, what a script can carry, and settings that contradict each other. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from launcher.config.cluster import (
    INTERFACE_VARIABLES,
    PROXY_VARIABLES,
    ClusterConfig,
    ClusterKind,
    GpuRequest,
    Runtime,
    SoftwareConfig,
)
from launcher.config.ranges import AUTO, positive, rate, share
from launcher.errors import Problem
from launcher.secrets import SECRET_NAME

JOBS = ("data_job", "export_job", "eval_job")
"""The jobs beside training, each with a shape of its own."""


def cluster_problems(cluster: ClusterConfig) -> Iterator[Problem]:
    """What is wrong with a profile."""
    for rule in (_numbers, _limits, _words, _variables, _memory, _local, _software):
        yield from rule(cluster)


def _numbers(cluster: ClusterConfig) -> Iterator[Problem]:
    for name in ("nodes", "gpus_per_node", "gpu_memory_gb", "cpus_per_gpu", "time_min", "max_time_min", "max_nodes"):
        yield from positive(f"cluster.{name}", getattr(cluster, name))
    for name in ("peak_tflops", "efficiency", "gpu_link_gb_s", "interconnect_gb_s", "mttf_hours_per_gpu"):
        yield from rate(f"cluster.{name}", getattr(cluster, name))
    yield from share("cluster.efficiency", cluster.efficiency)
    yield from positive("cluster.gpu_hour_price", cluster.gpu_hour_price, zero_allowed=True)
    for name in ("mem_gb_per_node", "mem_gb_per_gpu"):
        yield from positive(f"cluster.{name}", getattr(cluster, name), zero_allowed=name == "mem_gb_per_node")
    lead = cluster.signal_lead_s
    if lead != AUTO and (not isinstance(lead, int) or isinstance(lead, bool) or not 0 < lead < 60 * cluster.time_min):
        yield Problem(
            where="cluster.signal_lead_s",
            message=f"{lead!r} is not a number of seconds within the time limit of {cluster.time_min} min",
            valid=f"auto, or 1 to {60 * cluster.time_min - 1}",
        )
    for name in ("cpus", "mem_gb", "time_min"):
        yield from positive(f"cluster.data_job.{name}", getattr(cluster.data_job, name))
        yield from positive(f"cluster.export_job.{name}", getattr(cluster.export_job, name))
    for name in ("gpus", "cpus", "mem_gb", "time_min"):
        value = getattr(cluster.eval_job, name)
        yield from positive(f"cluster.eval_job.{name}", value, zero_allowed=name in ("gpus", "mem_gb"))


def _limits(cluster: ClusterConfig) -> Iterator[Problem]:
    """What the partition would refuse; of another partition for the smaller jobs nothing is known."""
    times = {"cluster.time_min": cluster.time_min}
    times |= {
        f"cluster.{name}.time_min": getattr(cluster, name).time_min
        for name in JOBS
        if getattr(cluster, name).partition is None
    }
    for where, minutes in times.items():
        if cluster.max_time_min is not None and minutes > cluster.max_time_min > 0:
            yield Problem(
                where=where,
                message=f"{minutes} is longer than the partition allows (cluster.max_time_min)",
                valid=f"1 to {cluster.max_time_min}",
            )
    if cluster.max_nodes is not None and cluster.nodes > cluster.max_nodes > 0:
        yield Problem(
            where="cluster.nodes",
            message=f"{cluster.nodes} is more than the partition gives to one job (cluster.max_nodes)",
            valid=f"1 to {cluster.max_nodes}",
        )


def _words(cluster: ClusterConfig) -> Iterator[Problem]:
    names = ("partition", "account", "qos", "wckey", "constraint", "reservation", "exclude", "gpu_type")
    words = {f"cluster.{name}": getattr(cluster, name) for name in names}
    words |= {f"cluster.{job}.partition": getattr(cluster, job).partition for job in JOBS}
    for key, value in words.items():
        if value is not None and re.search(r"[^\x20-\x7e]", value):
            yield Problem(where=key, message=f"{value!r} cannot stand in an #SBATCH line")
        elif value == "":
            yield Problem(where=key, message="it is empty", valid="a name, or null")
        elif key == "cluster.gpu_type" and value is not None and not re.fullmatch(r"[\w.-]+", value):
            valid = "the word between `gpu:` and the number in what `sinfo -o %G` prints, or null"
            yield Problem(where=key, message=f"{value!r} is not a type of GPU", valid=valid)
    if cluster.gpu_request is GpuRequest.none and cluster.gpu_type is not None:
        yield Problem(
            where="cluster.gpu_type",
            message=f"GPUs of type {cluster.gpu_type} cannot be had with cluster.gpu_request=none",
            remedy="write cluster.gpu_type=null, or cluster.gpu_request=gres",
        )


def _variables(cluster: ClusterConfig) -> Iterator[Problem]:
    for name in cluster.environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield Problem(where=f"cluster.environment.{name}", message="this is not a variable's name")
        elif SECRET_NAME.search(name):
            yield Problem(
                where=f"cluster.environment.{name}",
                message="this looks like a secret, and the config is written to files",
                remedy=f"export {name} in the shell that submits; Slurm carries it to the ranks",
            )
    for key, names in (("network_interface", INTERFACE_VARIABLES), ("proxy", PROXY_VARIABLES)):
        for name in names:
            if getattr(cluster, key) is not None and name in cluster.environment:
                yield Problem(
                    where=f"cluster.environment.{name}",
                    message=f"cluster.{key} sets it, too",
                    remedy=f"leave one of the two out: cluster.{key}=null, or ~cluster.environment.{name}",
                )
    interface = cluster.network_interface
    if interface is not None and not re.fullmatch(r"[\w.:-]+(,[\w.:-]+)*", interface):
        message = f"{interface!r} is no name of an interface"
        remedy = "for NCCL's own notation (^docker0, =eth0), set cluster.environment.NCCL_SOCKET_IFNAME"
        yield Problem(where="cluster.network_interface", message=message, valid="ib0, or ib0,ib1", remedy=remedy)
    yield from _proxy(cluster.proxy, cluster.no_proxy)


def _proxy(proxy: str | None, no_proxy: str) -> Iterator[Problem]:
    if proxy is not None and "@" in proxy:
        # The value is not repeated: it may be a password.
        yield Problem(
            where="cluster.proxy",
            message="it holds a user or a password, and the config is written to files",
            remedy="export https_proxy in the shell that submits, and write cluster.proxy=null",
        )
    elif proxy is not None and not re.fullmatch(r"(https?|socks5h?)://[\w.\-\[\]:]+/?", proxy):
        yield Problem(where="cluster.proxy", message=f"{proxy!r} is not a proxy's URL", valid="http://HOST:PORT")
    if not no_proxy.isprintable():
        yield Problem(
            where="cluster.no_proxy", message=f"{no_proxy!r} is no list of hosts", valid="localhost,10.0.0.0/8"
        )


def _memory(cluster: ClusterConfig) -> Iterator[Problem]:
    if cluster.mem_gb_per_node is not None and cluster.mem_gb_per_gpu is not None:
        yield Problem(
            where="cluster.mem_gb_per_node, cluster.mem_gb_per_gpu",
            message=f"both are set ({cluster.mem_gb_per_node} and {cluster.mem_gb_per_gpu})",
            valid="at most one of the two",
        )


def _local(cluster: ClusterConfig) -> Iterator[Problem]:
    if cluster.kind is not ClusterKind.local:
        return
    if cluster.nodes != 1:
        yield Problem(
            where="cluster.nodes",
            message=f"{cluster.nodes} nodes need a cluster, and cluster.kind is local",
            remedy="write cluster=slurm, or cluster.nodes=1",
        )
    software = cluster.software
    own = {f"software.{name}": getattr(software, name) for name in ("modules", "venv", "conda", "image", "python")}
    for key, value in {**own, "prologue": cluster.prologue, "local_dir": cluster.local_dir}.items():
        if value:
            yield Problem(
                where=f"cluster.{key}",
                message="ranks on this machine (cluster.kind=local) run as the launcher itself does",
                remedy="activate what they need before you type the command, and leave this out",
            )


def _software(cluster: ClusterConfig) -> Iterator[Problem]:
    software = cluster.software
    chosen = [name for name in ("venv", "conda", "image") if getattr(software, name) is not None]
    if len(chosen) > 1:
        yield Problem(
            where=", ".join(f"cluster.software.{name}" for name in chosen),
            message=f"{len(chosen)} environments are chosen at once",
            valid="one of venv, conda and image, or none",
        )
    for number, module in enumerate(software.modules):
        if not re.fullmatch(r"[A-Za-z0-9][\w.+/-]*", module):
            yield Problem(where=f"cluster.software.modules[{number}]", message=f"{module!r} is no module's name")
    conda = software.conda
    if conda is not None and not re.fullmatch(r"[A-Za-z0-9][\w.-]*|[/~.].*", conda):
        yield Problem(where="cluster.software.conda", message=f"{conda!r} is neither a name nor a folder")
    if cluster.local_dir is not None and not cluster.local_dir.startswith("/"):
        message = f"{cluster.local_dir!r} means another folder wherever a rank starts"
        yield Problem(where="cluster.local_dir", message=message, valid="an absolute path")
    yield from _image(software)
    yield from _mounts(software)


def _image(software: SoftwareConfig) -> Iterator[Problem]:
    image, where = software.image, "cluster.software.image"
    if image is None or image.startswith("/"):
        if image is not None and software.runtime is Runtime.pyxis and image.endswith(".sif"):
            remedy = "write cluster.software.runtime=apptainer, or `enroot import` the image to a .sqsh file"
            yield Problem(
                where=where, message=f"{image} is an image of Apptainer's, and Pyxis reads none", remedy=remedy
            )
        return
    pyxis = software.runtime is Runtime.pyxis
    looks_local = image.startswith((".", "~", "-")) or image.endswith((".sqsh", ".squashfs", ".sif"))
    if looks_local or (not pyxis and "://" not in image) or image == "":
        yield Problem(
            where=where,
            message=f"{image!r} is looked for wherever a node happens to start",
            valid="an absolute path, or " + ("REGISTRY#IMAGE:TAG" if pyxis else "docker://IMAGE:TAG"),
        )


def _mounts(software: SoftwareConfig) -> Iterator[Problem]:
    if software.mounts and software.image is None:
        remedy = "name cluster.software.image, or write cluster.software.mounts=[]"
        yield Problem(where="cluster.software.mounts", message="there is no image to mount them in", remedy=remedy)
    for number, mount in enumerate(software.mounts):
        parts = mount.split(":")
        if "," in mount or len(parts) > 3 or not all(part.startswith("/") for part in parts[:2]):
            yield Problem(
                where=f"cluster.software.mounts[{number}]",
                message=f"{mount!r} is no mount",
                valid="/FOLDER, /SOURCE:/TARGET or /SOURCE:/TARGET:ro, without commas",
            )
