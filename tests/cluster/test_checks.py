"""A profile against what Slurm says, its last word included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.cluster.checks import check
from launcher.cluster.draft import draft
from launcher.cluster.findings import Finding, Level
from launcher.config.cluster import ClusterConfig
from launcher.config.compose import compose_profile
from launcher.config.search import search_path
from launcher.decode import decode
from launcher.plain import plain
from launcher.runs.check_job import judge
from tests.cluster.test_facts import recorded
from tests.fakes import FakeSlurm


def profile(name: str, **changes: Any) -> ClusterConfig:
    base, _ = compose_profile(["cluster=slurm"], search_path(None, Path("/nowhere")))
    values = draft(recorded(name), base, partition=None, associations=[("lab", "gpu-high")]).values
    merged = {key: {**plain(base)[key], **new} if isinstance(new, dict) else new for key, new in values.items()}
    return replace(decode(ClusterConfig, {**plain(base), **merged}), **changes)


def found(name: str, runs: Path, **changes: Any) -> list[Finding]:
    return list(check(recorded(name), profile(name, **changes), runs))


def faults(name: str, runs: Path, **changes: Any) -> list[str]:
    return [one.what for one in found(name, runs, **changes) if one.level is Level.fault]


@pytest.mark.parametrize("name", ["devcluster_22.05", "other_24.05"])
def test_what_doctor_has_drafted_has_no_fault(name: str, slurm: FakeSlurm, tmp_path: Path) -> None:
    assert faults(name, tmp_path) == []
    assert slurm.calls("sbatch") == ["--test-only"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"partition": "no"}, "no partition no"),
        ({"nodes": 2}, "has 1 nodes in service, and the profile asks for 2"),
        ({"nodes": 5}, "cluster.nodes=5 is more than 4"),
        ({"time_min": 721}, "cluster.time_min=721 is longer than partition shared-gpu allows (720 min)"),
        ({"gpu_type": "h100"}, "GPUs: 8 of a100"),
        ({"gpus_per_node": 9}, "GPUs: 8 of a100"),
        ({"cpus_per_gpu": 9}, "64 CPUs (cluster.cpus_per_gpu=9)"),
        ({"mem_gb_per_gpu": 126}, "1000 GB of memory (the profile asks for 1008)"),
        ({"constraint": "ib&h100"}, "no node of shared-gpu has the feature h100"),
        ({"qos": "slow"}, "cluster.qos=slow may not use partition shared-gpu"),
    ],
)
def test_what_the_cluster_has_not_is_told_with_the_key(
    changes: dict[str, Any], words: str, slurm: FakeSlurm, tmp_path: Path
) -> None:
    assert any(words in fault for fault in faults("other_24.05", tmp_path, **changes))


def test_slurms_own_refusal_is_told_in_its_words(slurm: FakeSlurm, tmp_path: Path) -> None:
    slurm.refuse("allocation failure: Requested reservation is invalid")
    (fault,) = faults("devcluster_22.05", tmp_path, reservation="gone")
    assert "allocation failure: Requested reservation is invalid" in fault


def test_memory_that_nobody_asks_for_and_a_missing_key_are_warnings(slurm: FakeSlurm, tmp_path: Path) -> None:
    warnings = [one.what for one in found("other_24.05", tmp_path, mem_gb_per_gpu=None) if one.level is Level.warning]
    assert any("Slurm hands out memory" in one for one in warnings)
    assert any("workload key" in one for one in warnings)
    assert any("accelerator=auto" in one for one in warnings)


def answered(**changes: Any) -> dict[str, Any]:
    """What a job on two nodes with a GPU each would find."""
    ranks = [
        {
            "rank": number, "node": f"n{number + 1}", "host": "h", "torch": "2.8", "python": "3.11",
            "time": 100.0 + number / 100,
            "gpu": "NVIDIA H100 80GB HBM3", "gpu_memory_gb": 79.2, "complaints": [], "interfaces": ["eth0", "ib0"],
        }
        for number in range(2)
    ]  # fmt: skip
    ranks[0]["outside"] = {"W&B": None, "Hugging Face": "timed out"}
    ranks[1].update(changes)
    return {"backend": "nccl", "bandwidth_gb_s": {"16": 20.5, "256": 180.0}, "ranks": ranks}


def test_a_job_that_found_all_well_tells_clocks_bandwidth_and_devices() -> None:
    told = list(judge(profile("devcluster_22.05"), answered()))
    assert not [one for one in told if one.level is Level.fault]
    text = "\n".join(one.what for one in told)
    for words in ("n1, n2 met over nccl", "within 0.01 s", "256 MiB moves 180 GB/s", "79.2 GiB", "eth0, ib0"):
        assert words in text
    assert [one.what for one in told if one.level is Level.warning] == [
        "Hugging Face is not reached from node n1 (timed out)"
    ]


@pytest.mark.parametrize(
    ("seen", "changes", "words"),
    [
        ({"complaints": ["GPU 3 has 2 uncorrectable memory errors"]}, {}, "node n2: GPU 3"),
        ({"torch": "2.7"}, {}, "different versions of torch: 2.7, 2.8"),
        ({"gpu_memory_gb": 39.5}, {}, "a GPU has 39.5"),
        ({"interfaces": ["eth0"]}, {"network_interface": "ib0"}, "node n2 has no interface ib0"),
    ],
)
def test_what_a_job_found_amiss_is_a_fault(seen: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    told = judge(profile("devcluster_22.05", **changes), answered(**seen))
    assert any(words in one.what for one in told if one.level is Level.fault)
