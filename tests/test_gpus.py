from __future__ import annotations

import pytest

from launcher.gpus import GPUS, gpu_named


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIE"),
        ("h100_pcie", "H100 PCIE"),
        ("nvidia_a100-sxm4-80gb", "A100"),
        ("a10g", "A10"),
        ("NVIDIA GH200 480GB", "H200"),
        ("Tesla V100-SXM2-32GB", "V100"),
        ("tesla_t4", "T4"),
        ("L40S", "L40S"),
        ("AMD Instinct MI300X", "MI300X"),
        ("rtx_2080", None),
        ("", None),
        (None, None),
    ],
)
def test_a_type_is_known_by_the_names_of_devices_and_of_gres(name: str | None, meant: str | None) -> None:
    found = gpu_named(name)
    assert (None if found is None else found.name) == meant


def test_no_type_hides_one_that_comes_after_it() -> None:
    assert [gpu_named(gpu.name) for gpu in GPUS] == list(GPUS)
