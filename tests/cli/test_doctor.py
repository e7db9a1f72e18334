from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli.main import main
from tests.cluster.test_facts import RECORDED
from tests.fakes import FakeSlurm

Out = pytest.CaptureFixture[str]


@pytest.fixture
def answering(slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A Slurm that says what the development cluster said, and no network."""
    slurm.show({what: RECORDED / f"devcluster_22.05.{what}" for what in ("config", "partition", "node")})
    for name in ("WANDB_BASE_URL", "HF_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    return slurm


def test_a_first_profile_is_shown_and_written_only_when_asked(work: Path, answering: FakeSlurm, capsys: Out) -> None:
    assert main(["doctor"]) == 0
    seen = capsys.readouterr()
    assert "low (default)  yes  3 of 3" in seen.out
    assert "gpu_type: h100" in seen.out
    assert "nothing was written" in seen.err
    assert list(work.iterdir()) == []
    assert main(["doctor", "--write", "conf/cluster/mine.yaml"]) == 0
    assert "cluster=mine" in capsys.readouterr().err
    assert main(["doctor", "mine", "cluster.nodes=3"]) == 0
    # What is there already is nobody's to replace.
    assert main(["doctor", "--write", "conf/cluster/mine.yaml"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_what_does_not_hold_is_exit_5_and_one_document(work: Path, answering: FakeSlurm, capsys: Out) -> None:
    assert main(["doctor", "slurm", "cluster.nodes=9", "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert document["holds"] is False
    assert document["partitions"][0]["gpus"] == {"h100": 12}
    assert {"level", "what", "remedy"} == set(document["findings"][0])


def test_a_cluster_that_is_away_is_exit_4(work: Path, answering: FakeSlurm, capsys: Out) -> None:
    answering.refuse("slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)")
    assert main(["doctor"]) == 4
    assert "cannot reach the controller" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["mnie"], 2, "'mnie' is not a choice"),
        (["slurm", "cluster.partiton=x"], 2, "valid: cluster.partition"),
        (["slurm", "optim.lr=1"], 2, "this is no key of a profile"),
        (["slurm", "--write", "x.yaml"], 2, "a profile is named"),
        (["--write", "x"], 2, "--write x.yaml"),
        (["local", "--job"], 2, "there are no nodes"),
        (["--partition", "lwo"], 3, "valid: low"),
        (["slurm", "cluster.software.venv=/no", "cluster.software.conda=c"], 2, "chosen at once"),
    ],
)
def test_what_was_mistyped_is_told(
    words: list[str], code: int, told: str, work: Path, answering: FakeSlurm, capsys: Out
) -> None:
    assert main(["doctor", *words]) == code
    assert told in capsys.readouterr().err
    assert not list(work.rglob("*.yaml"))
