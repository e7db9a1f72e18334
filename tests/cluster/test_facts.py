"""What Slurm prints, as facts. `recorded/` holds the answers of the development cluster, and of the forms of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.cluster.facts import Facts, gpus_in, minutes, read

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> Facts:
    config, partitions, nodes = ((RECORDED / f"{name}.{what}").read_text() for what in ("config", "partition", "node"))
    return read(config, partitions, nodes)


def test_the_development_cluster() -> None:
    facts = recorded("devcluster_22.05")
    assert (facts.version, facts.cluster, facts.accounting) == ("22.05.8", "devcluster", True)
    assert (facts.counts_memory, facts.enforced) == (False, frozenset())
    low, high = facts.partitions
    assert (low.name, low.default, low.up, low.max_time_min, low.max_nodes) == ("low", True, True, None, None)
    assert (high.default, high.accounts, high.qos) == (False, None, None)
    assert [node.name for node in low.nodes] == ["n1", "n2", "n3"]
    node = low.nodes[0]
    assert (node.cpus, node.memory_gb, dict(node.gpus), node.features) == (64, 19, {"h100": 4}, ())
    assert all(node.usable for node in low.nodes)


def test_before_22_05_and_over_several_lines() -> None:
    facts = recorded("other_21.08")
    (gpu,) = facts.partitions
    assert (gpu.max_time_min, gpu.default) == (14 * 24 * 60, False)
    (node,) = gpu.nodes
    assert (node.cpus, node.memory_gb, dict(node.gpus)) == (64, 247, {"a100": 4})
    assert "gpua100" in node.features
    assert facts.counts_memory
    assert facts.enforced == {"associations", "limits", "qos"}


def test_24_05_with_cores_and_memory_kept_from_jobs() -> None:
    facts = recorded("other_24.05")
    debug, private, shared = facts.partitions
    assert (debug.max_time_min, debug.max_nodes, debug.gpu_nodes) == (15, 2, [])
    assert (private.accounts, private.max_time_min) == (("lab", "lab-two"), 7 * 24 * 60)
    assert (shared.qos, shared.max_time_min) == (("gpu-normal", "gpu-high"), 12 * 60)
    (node,) = private.nodes
    assert (node.cpus, node.memory_gb, dict(node.gpus)) == (62, (768000 - 16000) // 1024, {"nvidia_h100_nvl": 1})
    # Powered down, it comes when it is asked for; one that does not respond does not.
    assert [node.usable for node in shared.nodes] == [True, False]
    assert not facts.accounting


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:2", {"": 2}),
        ("gpu:2(S:0)", {"": 2}),
        ("gpu:h100:4(S:0,1),tmpdisk:100", {"h100": 4}),
        ("gpu:a100:4(S:0-3),gpu:a40:2(S:4-5)", {"a100": 4, "a40": 2}),
        ("gpu:1g.10gb:7(S:0),gpu:1g.10gb:7(S:1)", {"1g.10gb": 14}),
        ("lscratch:3200", {}),
        ("(null)", {}),
        ("", {}),
    ],
)
def test_gpus_in_a_nodes_gres(gres: str, gpus: dict[str, int]) -> None:
    assert gpus_in(gres) == gpus


@pytest.mark.parametrize(
    ("text", "limit"),
    [("UNLIMITED", None), ("infinite", None), ("12:00:00", 720), ("2-12:30:00", 3630), ("30:00", 30), ("7-00", 10080)],
)
def test_limits_in_minutes(text: str, limit: int | None) -> None:
    assert minutes(text) == limit
