"""Cluster profiles: what cannot be, and that it is told by the key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.config.cluster import ClusterConfig, GpuRequest, Runtime
from launcher.config.cluster_rules import cluster_problems
from launcher.config.compose import compose
from launcher.config.search import search_path
from launcher.errors import Problem


def profile(**changes: Any) -> ClusterConfig:
    """A profile of Slurm without opinions, once `key=value` or `software__key=value` are set."""
    config = compose("demo", ["cluster=slurm"], search_path(None, Path("/nowhere"))).config
    assert config is not None
    software = {name.removeprefix("software__"): value for name, value in changes.items() if "__" in name}
    own = {name: value for name, value in changes.items() if "__" not in name}
    return replace(config.cluster, **own, software=replace(config.cluster.software, **software))


def faults(**changes: Any) -> list[Problem]:
    return list(cluster_problems(profile(**changes)))


def test_a_profile_without_opinions_has_no_fault() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"software__venv": "/v", "software__image": "/i.sqsh"}, "cluster.software.venv, cluster.software.image"),
        ({"software__venv": "/v", "software__conda": "c"}, "cluster.software.venv, cluster.software.conda"),
        ({"software__image": "i.sqsh"}, "cluster.software.image"),
        ({"software__image": "./i"}, "cluster.software.image"),
        ({"software__image": "/i.sif"}, "cluster.software.image"),
        ({"software__image": "i.sif", "software__runtime": Runtime.apptainer}, "cluster.software.image"),
        ({"software__image": "ubuntu", "software__runtime": Runtime.singularity}, "cluster.software.image"),
        ({"software__mounts": ["/data"]}, "cluster.software.mounts"),
        ({"software__image": "ubuntu", "software__mounts": ["data:/data"]}, "cluster.software.mounts[0]"),
        ({"software__image": "ubuntu", "software__mounts": ["/a,/b"]}, "cluster.software.mounts[0]"),
        ({"software__modules": ["cuda; rm"]}, "cluster.software.modules[0]"),
        ({"software__modules": ["--force"]}, "cluster.software.modules[0]"),
        ({"software__conda": "-n"}, "cluster.software.conda"),
        ({"mem_gb_per_node": 8, "mem_gb_per_gpu": 8}, "cluster.mem_gb_per_node, cluster.mem_gb_per_gpu"),
        ({"mem_gb_per_gpu": 0}, "cluster.mem_gb_per_gpu"),
        ({"wckey": "a\nb"}, "cluster.wckey"),
        ({"account": ""}, "cluster.account"),
        ({"gpu_type": "h100:8"}, "cluster.gpu_type"),
        ({"gpu_type": "h100", "gpu_request": GpuRequest.none}, "cluster.gpu_type"),
        ({"max_nodes": 4, "nodes": 5}, "cluster.nodes"),
        ({"network_interface": "^docker0"}, "cluster.network_interface"),
        (
            {"network_interface": "ib0", "environment": {"NCCL_SOCKET_IFNAME": "eth0"}},
            "cluster.environment.NCCL_SOCKET_IFNAME",
        ),
        ({"proxy": "proxy:3128"}, "cluster.proxy"),
        ({"proxy": "http://me:secret@proxy:3128"}, "cluster.proxy"),
        ({"local_dir": "scratch"}, "cluster.local_dir"),
    ],
)
def test_what_cannot_be_is_told_by_its_key(changes: dict[str, Any], where: str) -> None:
    assert [problem.where for problem in faults(**changes)] == [where]


def test_no_job_is_longer_than_the_partition_allows_but_in_another_partition() -> None:
    assert [problem.where for problem in faults(max_time_min=300, time_min=400)] == ["cluster.time_min"]
    found = faults(max_time_min=200, time_min=400)
    assert [problem.where for problem in found] == [
        "cluster.time_min",
        "cluster.data_job.time_min",
        "cluster.export_job.time_min",
        "cluster.eval_job.time_min",
    ]
    elsewhere = replace(profile().data_job, partition="cpu")
    assert "cluster.data_job.time_min" not in [one.where for one in faults(max_time_min=200, data_job=elsewhere)]


def test_a_password_in_a_proxy_is_not_repeated() -> None:
    assert "secret" not in str(faults(proxy="http://me:secret@proxy:3128")[0])


@pytest.mark.parametrize("image", ["ubuntu", "nvcr.io#nvidia/pytorch:25.06-py3", "docker://ubuntu", "/images/i.sqsh"])
def test_what_the_runtime_fetches_or_finds_everywhere_is_an_image(image: str) -> None:
    assert faults(software__image=image) == []


def test_a_run_on_this_machine_takes_no_environment_that_nobody_would_enter() -> None:
    config = compose("demo", [], search_path(None, Path("/nowhere"))).config
    assert config is not None
    cluster = replace(config.cluster, software=replace(config.cluster.software, venv="/v"), prologue="/p")
    assert [one.where for one in cluster_problems(cluster)] == ["cluster.software.venv", "cluster.prologue"]
