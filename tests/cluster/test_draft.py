"""The first profile: what Slurm says, as keys; what it does not say stays open."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from launcher.cluster.draft import Draft, draft
from launcher.cluster.findings import Level
from launcher.cluster.gpu_memory import sizes_gb
from launcher.config.cluster import ClusterConfig
from launcher.config.cluster_rules import cluster_problems
from launcher.config.compose import compose_profile
from launcher.config.search import search_path
from launcher.errors import NotFoundError, UserError
from tests.cluster.test_facts import recorded

Pairs = list[tuple[str, str]]


def drafted(name: str, partition: str | None = None, associations: Pairs | None = None) -> Draft:
    base, _ = compose_profile(["cluster=slurm"], search_path(None, Path("/nowhere")))
    return draft(recorded(name), base, partition=partition, associations=associations or [])


def profile(made: Draft, name: str, work: Path) -> ClusterConfig:
    """The profile as it is read back from its file."""
    file = work / "conf" / "cluster" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(made.text(recorded(name)))
    cluster, _ = compose_profile(["cluster=mine"], search_path(None, work))
    return cluster


def test_what_slurm_says_of_the_development_cluster_is_a_profile(work: Path) -> None:
    made = drafted("devcluster_22.05")
    cluster = profile(made, "devcluster_22.05", work)
    assert list(cluster_problems(cluster)) == []
    assert (cluster.partition, cluster.gpu_type, cluster.gpus_per_node) == ("low", "h100", 4)
    assert (cluster.gpu_memory_gb, cluster.cpus_per_gpu, cluster.mem_gb_per_gpu) == (80, 16, None)
    # A node has less than the data job asks for otherwise.
    assert (cluster.data_job.mem_gb, cluster.data_job.cpus) == (19, 8)
    assert cluster.time_min == 1440
    assert made.findings == []


def test_limits_memory_and_the_quality_of_service_that_a_partition_insists_on(work: Path) -> None:
    made = drafted("other_24.05", "shared-gpu", [("lab", "normal")])
    cluster = profile(made, "other_24.05", work)
    assert list(cluster_problems(cluster)) == []
    assert (cluster.time_min, cluster.max_time_min, cluster.max_nodes) == (720, 720, 4)
    assert (cluster.mem_gb_per_gpu, cluster.qos, cluster.account) == (125, "gpu-normal", "lab")
    # The type leaves 40 or 80 open; a feature says which.
    assert cluster.gpu_memory_gb == 80
    # The default partition has no GPUs, and little time.
    data_job = cluster.data_job
    assert (data_job.partition, data_job.time_min, data_job.mem_gb) == ("debug-cpu", 15, 25)
    assert (cluster.eval_job.time_min, cluster.eval_job.mem_gb) == (240, 125)


def test_memory_that_nothing_tells_is_left_open_and_planning_asks_for_it(work: Path) -> None:
    made = drafted("other_21.08")
    assert [found.level for found in made.findings] == [Level.fault]
    assert "40 or 80 GB" in made.findings[0].what
    with pytest.raises(UserError, match=r"cluster\.gpu_memory_gb: None is not a number"):
        profile(made, "other_21.08", work)


def test_an_account_that_may_use_the_partition_is_taken_and_others_are_told() -> None:
    made = drafted("other_24.05", "private-gpu", [("other", "normal"), ("lab-two", "normal")])
    assert made.values["account"] == "lab-two"
    made = drafted("other_24.05", "private-gpu", [("other", "normal")])
    assert any("for the accounts lab, lab-two" in found.what for found in made.findings)


def test_a_partition_without_gpus_or_none_at_all_names_those_that_have_them() -> None:
    with pytest.raises(NotFoundError, match="shared-gpu"):
        drafted("other_24.05", "debug-cpu")
    with pytest.raises(NotFoundError, match="valid: shared-gpu"):
        drafted("other_24.05", "shared-gpus")


def test_words_that_yaml_would_take_for_something_else_are_quoted() -> None:
    made = Draft(values={"partition": "on", "account": "12", "qos": "a: b", "gpu_type": "h100"}, notes={}, findings=[])
    values = yaml.safe_load(made.text(recorded("devcluster_22.05")))
    assert [values[key] for key in made.values] == ["on", "12", "a: b", "h100"]


@pytest.mark.parametrize(
    ("gpu_type", "features", "sizes"),
    [
        ("h100", [], (80,)),
        ("a100", [], (40, 80)),
        ("a100", ["ib", "a100_80g"], (80,)),
        ("nvidia_a100-sxm4-40gb", ["gpu80gb"], (40,)),
        ("nvidia_a100_3g.20gb", [], (20,)),
        ("1g.10gb", [], (10,)),
        ("nvidia_h100_nvl", [], ()),
        ("ampere", [], ()),
        ("", ["gpu80gb"], ()),
    ],
)
def test_memory_by_type(gpu_type: str, features: list[str], sizes: tuple[int, ...]) -> None:
    assert sizes_gb(gpu_type, features) == sizes
