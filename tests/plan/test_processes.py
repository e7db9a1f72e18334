"""What ranks on CPUs hold is estimated as it was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.host_memory import OWN, Setting, grid, predicted, seen_in
from launcher.cli.page import page
from launcher.plan.build import Request, plan_request
from launcher.plan.processes import host_memory
from tests.plan.test_memory import recipe

MEASURED = Path(__file__).parents[2] / "benchmarks" / "measured" / "host_cpu.json"
KEPT = json.loads(MEASURED.read_text(encoding="utf-8"))
MOST = 0.15


@pytest.mark.parametrize("setting", [one for one in grid() if one.name in KEPT], ids=lambda setting: setting.name)
def test_every_phase_is_estimated_as_processes_were_seen(setting: Setting) -> None:
    own, nothing = seen_in(KEPT[OWN.name]), predicted(OWN)
    estimate = predicted(setting)
    for phase, seen in seen_in(KEPT[setting.name]).items():
        expected = estimate[phase] / 1e9 + own[phase] - nothing[phase] / 1e9
        assert expected == pytest.approx(seen, rel=MOST), phase


@pytest.mark.parametrize(("stage", "training"), [(1, 2 + 4 + 12 / 8), (2, 2 + 12 / 8), (3, 18 / 8)])
def test_states_are_those_of_the_zero_paper(stage: int, training: float) -> None:
    config, shape = recipe("sft_llama3_8b", f"zero=zero{stage}")
    parameters = 8_030_261_248
    # Beside them: stage 3's bucket.
    standing = 2 * 500_000_000 if stage == 3 else 0
    # Not there while it saves: what stage 3 has gathered, and the rank's part of a bucket in fp32, of which the C
    # library keeps pieces below 32 MiB, all but those of the embedding and of the head; before stage 3, gradients.
    kept = 4 * 500_000_000 / 8 * (1 - 2 * 128256 * 4096 / parameters)
    freed = {1: 2 * parameters, 2: 4 / 8 * parameters, 3: 2 * 1_050_000_000 + kept}[stage]
    step = {1: parameters, 2: 12 / 8 * parameters, 3: 8_000_000_000 + 4 / 8 * parameters}[stage]
    found = host_memory(config, shape, 8, 1)
    assert found.saving == pytest.approx(training * parameters + standing)
    assert found.training - found.saving == pytest.approx(freed + step)
    first_ranks_weights = 2 if stage < 3 else 0
    assert found.copied - found.saving == pytest.approx((12 / 8 + first_ranks_weights) * parameters)


def test_an_export_holds_one_file_and_one_weight(work: Path) -> None:
    config, shape = recipe("sft_llama3_70b")
    assert host_memory(config, shape, 64, 1).exporting == 5e9 + 4 * 128256 * 8192


def test_the_page_tells_of_cpus_only(work: Path) -> None:
    told = "estimate per rank on CPUs, GB, beside the interpreter and its libraries:"
    for accelerator, expected in (("cpu", True), ("cuda", False)):
        overrides = [f"cluster.accelerator={accelerator}"]
        plan = plan_request(Request(recipe="sft_llama3_8b", overrides=overrides, config_dir=None, work_dir=work))
        assert (told in page(plan)) == expected
